"""Commands for those who build and show the farm; none of it is in the installed packages."""
