-- Where jobs of a tenant stand: the named one, or (with a limit above 0) the newest so many.
local tenant, named, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local jobs = {named}
if limit > 0 then jobs = redis.call('ZREVRANGE', tenant_key(tenant), 0, limit - 1) end
local answers = {}
for _, job in ipairs(jobs) do
  if owned(tenant, job) then
    local c = counts(job)
    local h = redis.call('HMGET', job_key(job), 'model', 'priority', 'created', 'started', 'finished')
    answers[#answers + 1] = {
      job, h[1], h[2], state_of(c), c.n, c.running, c.done, c.failed, h[3], h[4] or '', h[5] or '',
      redis.call('LRANGE', job_key(job, 'pace'), 0, -1),
    }
  else
    redis.call('ZREM', tenant_key(tenant), job)
  end
end
return {NOW, answers}
