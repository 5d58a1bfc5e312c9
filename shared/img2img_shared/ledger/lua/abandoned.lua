-- Submissions that were begun `age` ms ago and that made no job: from now on none of them can, so that their inputs may
-- go. Whoever asks has `turn` ms for that; then they are given to the next who asks.
local age, turn, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found = {}
for _, job in ipairs(redis.call('ZRANGEBYSCORE', submissions_key(), '-inf', NOW - age, 'LIMIT', 0, limit)) do
  if redis.call('EXISTS', job_key(job)) == 1 then
    redis.call('ZREM', submissions_key(), job)
  else
    redis.call('SET', abandoned_key(job), 1, 'PX', 10 * age) -- who was asleep for so long must not wake up to submit
    redis.call('ZADD', submissions_key(), NOW - age + turn, job)
    found[#found + 1] = job
  end
end
return found
