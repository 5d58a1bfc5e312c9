-- The standing of a tenant's job; false if there is none.
local tenant, id = unpack(ARGV)
local job = owned(tenant, id)
return job and standing(job)
