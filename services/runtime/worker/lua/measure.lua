-- Numbers that are gathered: how many, their sum, their percentiles. For Debug's timers and Metrics.

local kit = ...

local type, huge, ceil = type, math.huge, math.ceil
local format, sort, utf8_len = string.format, table.sort, utf8.len

local NAMES_MAX, SAMPLES_MAX, NAME_BYTES_MAX = 500, 1000, 200

local measure = {names_max = NAMES_MAX}
kit.measure = measure

function measure.checked_name(name, field)
  if type(name) ~= "string" or name == "" or #name > NAME_BYTES_MAX or not utf8_len(name) then
    kit.invalid(field or "name", format("must be UTF-8 text of 1 to %d bytes", NAME_BYTES_MAX))
  end
  return name
end

-- Numbers with their count, sum, least and greatest, and of the last thousand the percentiles.
function measure.new()
  return {count = 0, sum = 0, values = {}, least = huge, greatest = -huge}
end

function measure.add(samples, value)
  samples.count = samples.count + 1
  samples.sum = samples.sum + value
  samples.values[(samples.count - 1) % SAMPLES_MAX + 1] = value
  if value < samples.least then samples.least = value end
  if value > samples.greatest then samples.greatest = value end
end

-- The smallest value that is at least as large as `share` of all.
local function percentile(sorted, share)
  return sorted[ceil(share * #sorted)] or sorted[1]
end

function measure.summary(samples)
  if samples.count == 0 then return {count = 0, sum = 0} end
  local sorted = {}
  for i = 1, #samples.values do sorted[i] = samples.values[i] end
  sort(sorted)
  return {
    count = samples.count, sum = samples.sum, mean = samples.sum / samples.count,
    min = samples.least, max = samples.greatest, p50 = percentile(sorted, 0.50),
    p95 = percentile(sorted, 0.95), p99 = percentile(sorted, 0.99),
  }
end

function measure.names_of(all)
  local names = {}
  for name in kit.pairs(all) do names[#names + 1] = name end
  return names
end

-- The entry of a name in `all`, made where there is none; `counts[kind]` is how many there are.
function measure.entry_of(all, counts, kind, name, make)
  local found = all[name]
  if found then return found end
  if counts[kind] >= NAMES_MAX then
    kit.refuse(
      "LIMIT_EXCEEDED", "name", format("There are %d %s already.", NAMES_MAX, kind),
      {field = "name", limit = NAMES_MAX}
    )
  end
  counts[kind] = counts[kind] + 1
  all[name] = make()
  return all[name]
end
