"""Augmentation: workers read noise, rooms and codecs; the device that trains applies them."""
