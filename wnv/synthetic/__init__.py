"""The synthetic world: procedural places, moving bodies and cameras, rendered exactly, with data sets over them."""
