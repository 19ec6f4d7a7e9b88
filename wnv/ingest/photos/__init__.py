"""Photographs of one place, instead of a video: reading, camera poses, and packing."""
