-- A document of an owner, and when it is due, see `FairAgenda`: with one and not the other it would wait for ever. A new
-- one leaves what has its name as it is.
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
  redis.call('ZADD', waiting, 'NX', due, name) -- an older version wrote the one before the other, and may have died
end
