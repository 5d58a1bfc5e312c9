-- Adds a document of an owner and the time at which it is due (see `FairAgenda`): with only one of them, it would wait
-- forever. A new document does not replace one of the same name.
local documents, owners, waiting, owner, name, document, after, is_new = unpack(ARGV)
expect('hash', documents)
expect('set', owners)
expect('zset', waiting)
local due = string.format('%.3f', NOW / 1000 + tonumber(after))
redis.call('SADD', owners, owner)
if is_new == '' then
  redis.call('HSET', documents, name, document)
  redis.call('ZADD', waiting, due, name)
else
  redis.call('HSETNX', documents, name, document)
  redis.call('ZADD', waiting, 'NX', due, name) -- an older version wrote them one after the other, and may have died in between
end
