"""Devices, processes, signals, clocks and files; knows no GAN."""
