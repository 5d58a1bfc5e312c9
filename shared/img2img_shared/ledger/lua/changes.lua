-- A tenant's jobs to which something has happened after `after` (ms; 0: from now on), about `limit` of them, those of before
-- first. Gives the time, up to when these are all, whether none is missing, and of each its id and, if it is still there, how
-- it stands. What happens in this millisecond is left for the next call: more may happen in it.
local tenant, after, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local last = NOW - 1
if after == 0 then return {NOW, last, 1, {}} end
if after < NOW - CHANGES or after > NOW then return {NOW, last, 0, {}} end
local changed, from = changed_key(tenant), string.format('(%.0f', after)
local at_limit = redis.call('ZRANGEBYSCORE', changed, from, last, 'WITHSCORES', 'LIMIT', limit - 1, 1)[2]
if at_limit then last = tonumber(at_limit) end
local answers = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', changed, from, last)) do
  local job = owned(tenant, id)
  answers[#answers + 1] = job and {id, standing(job)} or {id}
end
return {NOW, math.max(last, after), 1, answers}
