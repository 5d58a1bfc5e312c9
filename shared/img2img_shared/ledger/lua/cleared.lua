-- Notes that the results of a removed job are gone. A worker that was thought dead may still write one, so they are
-- looked for once more, `later` ms from now.
local member, later = ARGV[1], tonumber(ARGV[2])
redis.call('ZREM', REMOVED, member)
if not string.find(member, ' again$') then redis.call('ZADD', REMOVED, NOW + later, member .. ' again') end
return 1
