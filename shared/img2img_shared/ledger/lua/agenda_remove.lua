-- Removes a document and the time at which it is due (see `FairAgenda`), and its owner after the last one.
local documents, owners, waiting, owner, name = unpack(ARGV)
expect('hash', documents)
expect('set', owners)
expect('zset', waiting)
redis.call('HDEL', documents, name)
redis.call('ZREM', waiting, name)
if redis.call('EXISTS', waiting) == 0 then redis.call('SREM', owners, owner) end
