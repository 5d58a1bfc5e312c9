-- Forgets a job that has ended, whose results are about to be removed. Returns false if the tenant has no such job, 0 if
-- it has not ended, an id if that job is made from its results. A repeat with the same key gets the same answer. With
-- `count`, adds up the objects removed from the store, and returns the sum for this key.
local tenant, id, by, once, count = unpack(ARGV)
local answered = answer_key(tenant, 'remove', id, once)
if count then
  local sum = redis.call('INCRBY', answered, count)
  redis.call('PEXPIRE', answered, ANSWERS)
  return sum
end
if once ~= '' and redis.call('EXISTS', answered) == 1 then return 1 end
local job = owned(tenant, id) and load(id)
if not job then return false end
expect_to_control(tenant)
if not job.finished then return 0 end
local whole = string.match(hget(job_key(id), 'whole') or '', '^%S+')
if whole and redis.call('EXISTS', job_key(whole)) == 1 then return whole end
remove(job)
audit(by, tenant, 'remove', id)
if once ~= '' then redis.call('SET', answered, 0, 'PX', ANSWERS) end
return 1
