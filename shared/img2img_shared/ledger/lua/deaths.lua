-- How many workers have died of loading a model of late.
return deaths_of(ARGV[1])
