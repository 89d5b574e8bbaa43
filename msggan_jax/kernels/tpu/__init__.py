"""The forms of TPUs, which pad the channels of an array to 128."""
