-- Where a tenant's jobs stand, newest first: at most `limit`, from behind `after` ('created id'; '': the newest) on.
-- Gives the time, where to go on ('' at the end), and the jobs; those that were forgotten are left out.
local tenant, after, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local listed = tenant_key(tenant)
local rank = 0
if after ~= '' then
  local created, id = string.match(after, '^(%d+) (%S+)$')
  rank = redis.call('ZREVRANK', listed, id)
  -- forgotten meanwhile: from the newest that may come behind it
  rank = rank and rank + 1 or redis.call('ZCOUNT', listed, '(' .. created, '+inf')
end
local found = redis.call('ZREVRANGE', listed, rank, rank + limit - 1, 'WITHSCORES')
local answers = {}
for i = 1, #found, 2 do
  local job = read(found[i]) or load(found[i])
  if job then
    answers[#answers + 1] = standing(job)
  else
    redis.call('ZREM', listed, found[i])
    forget(found[i])
  end
end
local next = ''
if #found == 2 * limit then next = string.format('%.0f %s', found[#found], found[#found - 1]) end
return {NOW, next, answers}
