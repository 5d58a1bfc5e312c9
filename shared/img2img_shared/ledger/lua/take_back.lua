-- The janitor's round. False when another worker is the janitor; else how many images were handed back, became
-- suspects, and failed.
local model, worker, lease, term = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local janitor, tick = model_key(model, 'janitor'), model_key(model, 'tick')
local elected = redis.call('GET', janitor)
if elected and elected ~= worker then return false end
redis.call('SET', janitor, worker, 'PX', term)

-- Nobody has ticked for a while: Redis was away, and the holders could not renew. They come first.
local h = redis.call('HMGET', tick, 'at', 'grace')
local grace = math.min(tonumber(h[2] or '0'), NOW + lease)
if not h[1] or NOW - tonumber(h[1]) > lease / 2 then grace = NOW + lease end
redis.call('HSET', tick, 'at', NOW, 'grace', grace)
if NOW < grace then return {0, 0, 0} end

-- No lease ends later than one that begins now: a clock that was set back must not keep a dead worker's images.
local leases = model_key(model, 'leases')
for _, nonce in ipairs(redis.call('ZRANGEBYSCORE', leases, NOW + lease + 1, '+inf', 'LIMIT', 0, 1000)) do
  redis.call('ZADD', leases, NOW + lease, nonce)
end

local handed_back, suspects, failed = 0, 0, 0
for _, nonce in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', NOW, 'LIMIT', 0, 1000)) do
  local claim = drop(model, nonce)
  if redis.call('EXISTS', worker_key(claim.worker)) == 1 then
    handed_back = handed_back + 1
    hand_back(model, claim, 0)
  else
    redis.call('SET', dead_key(nonce), claim.job .. ' ' .. claim.index, 'PX', PARDON)
    local deaths = redis.call('HINCRBY', job_key(claim.job, 'deaths'), claim.index, 1)
    if deaths >= DEATHS and not hget(job_key(claim.job), 'cancelled') then
      failed = failed + 1
      fail(claim, deaths .. ' workers died while rendering it, the last of them ' .. claim.worker)
    else
      suspects = suspects + 1
      hand_back(model, claim, 0)
    end
  end
end
return {handed_back, suspects, failed}
