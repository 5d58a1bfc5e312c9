"""How the checkpoint `demo` is made: a drawn world, its captions, training, export and a measured report."""
