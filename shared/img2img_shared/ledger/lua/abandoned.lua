-- Submissions that began `age` ms ago and wrote no job. From now on none of them can, so that their inputs may be
-- removed. The caller has `turn` ms for that; then they are returned to the next caller. A ledger that is an older copy
-- cannot know what became of submissions begun before it was restored.
local age, turn, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local trusted = tonumber(hget(JANITOR, 'trusted') or '0')
local found = {}
local listed = redis.call('ZRANGEBYSCORE', submissions_key(), '-inf', NOW - age, 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #listed, 2 do
  local job = listed[i]
  if redis.call('EXISTS', job_key(job)) == 1 or tonumber(listed[i + 1]) < trusted then
    redis.call('ZREM', submissions_key(), job)
  else
    redis.call('SET', abandoned_key(job), 1, 'PX', 10 * age) -- a client that slept for so long must not wake up and submit it
    redis.call('ZADD', submissions_key(), NOW - age + turn, job)
    found[#found + 1] = job
  end
end
return found
