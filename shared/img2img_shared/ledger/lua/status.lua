-- Where a job of a tenant stands; false: there is none.
local tenant, id = unpack(ARGV)
local job = owned(tenant, id)
return job and {NOW, standing(job)}
