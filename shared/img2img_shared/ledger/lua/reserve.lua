-- Counts a job that is about to be written, unless that exceeds the tenant's quota: -1, else how much is under way.
-- A job that is noted but not in the ledger is being written just now, or its gateway died before: after a minute it
-- counts no more. One that is in the ledger is counted there. One that is asked for again before it is there counts once.
local tenant, job, n, quota, once = unpack(ARGV)
local open = FARM .. ':gateway:open:' .. tenant
local now = math.floor(NOW / 1000)
if once ~= '' and redis.call('EXISTS', idempotency_key(tenant, once)) == 1 then return -1 end
local own = once ~= '' and 'once ' .. once or job
local sum = number(hget(UNDER_WAY, tenant))
local noted = redis.call('HGETALL', open)
for i = 1, #noted, 2 do
  local size, since = string.match(noted[i + 1], '^(%d+) (%d+)$')
  local key = string.match(noted[i], '^once (.*)$')
  local written = key and idempotency_key(tenant, key) or job_key(noted[i])
  if not size or now - since >= 60 or redis.call('EXISTS', written) == 1 then
    redis.call('HDEL', open, noted[i])
  elseif noted[i] ~= own then
    sum = sum + size
  end
end
if sum + n > tonumber(quota) then return sum end
redis.call('HSET', open, own, n .. ' ' .. now)
return -1
