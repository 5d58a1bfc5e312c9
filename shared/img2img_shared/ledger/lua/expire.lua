-- Forgets expired jobs, at most `limit`, so that their results may be removed; returns how many were looked at. If this
-- ledger is an older copy, jobs that ended before it was restored may have been kept longer since: they get their full
-- time once more.
local limit = tonumber(ARGV[1])
local trusted = tonumber(hget(JANITOR, 'trusted') or '0')
local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', NOW, 'LIMIT', 0, limit)
for _, id in ipairs(due) do
  local job = load(id)
  if not job or not job.finished then
    redis.call('ZREM', DUE, id)
  elseif tonumber(job.finished) < trusted then
    set(job, 'finished', trusted)
    let_go(job)
  else
    expect_to_control(job.tenant)
    remove(job)
  end
end
return #due
