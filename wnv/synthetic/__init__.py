"""The synthetic world: procedural places, moving bodies and cameras, exact rendering, and data sets of them."""
