-- Forgets jobs whose time to be kept is over, `limit` at most, so that their results may be removed; how many were
-- looked at. Those that ended in a ledger of which this one is an older copy may have been wanted longer since.
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
