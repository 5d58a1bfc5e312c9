-- Removed jobs whose results may still be in the store, at most `limit`. The caller has `turn` ms to remove these; then
-- they are returned to the next caller.
local turn, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = redis.call('ZRANGEBYSCORE', REMOVED, '-inf', NOW, 'LIMIT', 0, limit)
for _, member in ipairs(found) do redis.call('ZADD', REMOVED, NOW + turn, member) end
return found
