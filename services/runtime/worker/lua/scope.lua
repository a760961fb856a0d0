-- How a script names a scope, and through it perhaps a tenant.

local kit = ...

local find, match, type = string.find, string.match, type

local KINDS = {
  user = true, session = true, agent = true, tool = true, workflow = true, hook = true,
  custom = true,
}

local function checked(value, field)
  if value == nil or type(value) == "string" then return value end
  if kit.integer(value) then return kit.tostring(kit.integer(value)) end
  kit.invalid(field, "must be text, not a " .. type(value))
end

-- The scope's text for the contract and the tenant to act for, if another was named.
--   "session:9f2"                 as it is; likewise each KIND:NAME
--   "session", "9f2"              session:9f2
--   "session" alone               session:default
--   "tenant:x" or "tenant", "x"   all that follows is in tenant x, scope global
--   "drafts"                      custom:drafts
--   nil, ""                       `otherwise`
function kit.scope(scope, scope_id, otherwise)
  scope, scope_id = checked(scope, "scope"), checked(scope_id, "scope_id")
  if scope == nil or scope == "" then
    if scope_id then return "custom:" .. scope_id, nil end
    return otherwise, nil
  end
  if scope == "global" then return scope, nil end
  local kind, name = match(scope, "^(%a+):(.+)$")
  if not kind then kind, name = scope, scope_id end
  if kind == "tenant" then
    if not name then kit.required("scope_id") end
    return otherwise, name
  end
  if KINDS[kind] then return kind .. ":" .. (name or "default"), nil end
  -- A name nobody knows is a custom scope of that name; the host says if it cannot be one.
  return "custom:" .. scope .. (not find(scope, ":") and scope_id and "-" .. scope_id or ""), nil
end
