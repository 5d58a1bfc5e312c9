-- How many workers have recently died while loading a model.
return deaths_of(ARGV[1])
