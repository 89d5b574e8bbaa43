"""Weight files of the public versions of MSG-GAN."""
