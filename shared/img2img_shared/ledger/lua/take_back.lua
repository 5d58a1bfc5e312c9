-- The janitor's round. False when another worker is the janitor; else how many images were handed back, became
-- suspects, and failed, and whether there are more.
local model, worker, lease, term = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local SHARE = 50 -- leases at a time, so that Redis is never held up for long
local janitor, tick = model_key(model, 'janitor'), model_key(model, 'tick')
local elected = redis.call('GET', janitor)
if elected and elected ~= worker then return false end
redis.call('SET', janitor, worker, 'PX', term)

-- Some of what hands or older versions may have left behind.
adopt(model)
redis.call('DEL', model_key(model, 'floor'))
for _, id in ipairs(redis.call('HRANDFIELD', OPEN, 2)) do mend(id) end

-- Nobody has ticked for a while: Redis was away, and the holders could not renew. They come first.
local h = redis.call('HMGET', tick, 'at', 'grace')
local grace = math.min(tonumber(h[2] or '0'), NOW + lease)
if not h[1] or NOW - tonumber(h[1]) > lease / 2 then grace = NOW + lease end
redis.call('HSET', tick, 'at', NOW, 'grace', grace)
if NOW < grace then return {0, 0, 0, 0} end

-- No lease ends later than one that begins now: a clock that was set back must not keep a dead worker's images.
local leases = model_key(model, 'leases')
for _, nonce in ipairs(redis.call('ZRANGEBYSCORE', leases, NOW + lease + 1, '+inf', 'LIMIT', 0, SHARE)) do
  redis.call('ZADD', leases, NOW + lease, nonce)
end

local handed_back, suspects, failed = 0, 0, 0
local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', NOW, 'LIMIT', 0, SHARE)
for _, nonce in ipairs(expired) do
  local claim = drop(model, nonce)
  if claim and redis.call('EXISTS', worker_key(claim.worker)) == 1 then
    handed_back = handed_back + 1
    hand_back(claim, 0)
  elseif claim then
    local id = claim.job.id
    redis.call('SET', dead_key(nonce), id .. ' ' .. claim.index, 'PX', PARDON)
    local deaths = redis.call('HINCRBY', job_key(id, 'deaths'), claim.index, 1)
    if deaths >= DEATHS and not claim.job.cancelled then
      failed = failed + 1
      fail(claim, deaths .. ' workers died while rendering it, the last of them ' .. claim.worker)
    else
      suspects = suspects + 1
      hand_back(claim, 0)
    end
  end
end
return {handed_back, suspects, failed, #expired == SHARE and 1 or 0}
