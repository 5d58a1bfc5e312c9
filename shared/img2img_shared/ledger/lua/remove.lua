-- Forgets a job that has ended, whose results are about to be removed. False: no such job of this tenant; 0: it has not ended.
local tenant, id, by = unpack(ARGV)
local job = owned(tenant, id)
if not job then return false end
if not job.finished then return 0 end
remove(job)
audit(by, tenant, 'remove', id)
return 1
