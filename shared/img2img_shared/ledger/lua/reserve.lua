-- Reserves a job that is about to be written, and returns -1; or returns the images under way, if it would exceed the
-- tenant's quota. A reserved job that is not in the ledger is being written, or its gateway has died: after a minute it
-- is not counted any more. One in the ledger is counted there. A repeated reservation counts once.
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
