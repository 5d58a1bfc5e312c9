-- Removes a document and the time at which it is due (see `FairAgenda`).
local documents, waiting, name = unpack(ARGV)
expect('hash', documents)
expect('zset', waiting)
redis.call('HDEL', documents, name)
redis.call('ZREM', waiting, name)
