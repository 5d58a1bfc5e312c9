-- Holds pictures that a submission is about to name, by their digests: until it is committed or given up, none of them is
-- removed. Returns 0 if one of them is being removed right now; it may be named again in a moment.
local job, tenant, lifetime, size = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local digests = {unpack(ARGV, 5)}
for _, digest in ipairs(digests) do
  local ends = hget(DOOMED, tenant .. '/' .. digest)
  if ends and tonumber(ends) > NOW then return 0 end
end
redis.call('ZADD', submissions_key(), 'NX', NOW, job) -- Redis may have forgotten it
for _, digest in ipairs(digests) do redis.call('SADD', naming_key(job), string.sub(digest, 1, 16)) end
if size > 0 then redis.call('HINCRBY', STORED, tenant, size) end
redis.call('PEXPIRE', naming_key(job), lifetime)
return 1
