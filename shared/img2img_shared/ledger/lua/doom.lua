-- Prepares the removal of a tenant's pictures that no job up to `latest` names, within `turn` ms: returns those that no
-- submission holds. False: jobs were submitted since then, which may name them.
local tenant, latest, turn, generation = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
if (redis.call('LINDEX', submitted_key(tenant), -1) or '') ~= latest then return false end
if tonumber(hget(JANITOR, 'generation') or '-1') ~= tonumber(generation) then return false end -- a copy of the ledger was restored meanwhile
local digests, short, held = {unpack(ARGV, 5)}, {}, {}
for i, digest in ipairs(digests) do short[i] = string.sub(digest, 1, 16) end
for _, job in ipairs(redis.call('ZRANGE', submissions_key(), 0, -1)) do
  if redis.call('EXISTS', naming_key(job)) == 1 then
    for i, is_held in ipairs(redis.call('SMISMEMBER', naming_key(job), unpack(short))) do
      if is_held == 1 then held[i] = true end
    end
  end
end
local doomed = {}
for i, digest in ipairs(digests) do
  if not held[i] then
    redis.call('HSET', DOOMED, tenant .. '/' .. digest, NOW + turn)
    doomed[#doomed + 1] = digest
  end
end
return doomed
