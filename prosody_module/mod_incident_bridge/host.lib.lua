-- What this server tells the bridge about a host: host.describe.

local array = require "util.array";
local jid = require "util.jid";
local json_null = require "util.json".null;

local module_version = "0.2.0";
local capabilities = { "stanza.send", "operator.notify", "host.describe", "reporters.notify", "list.read" };
local mitigating = { "impact.preview", "account.suspend", "domain.block", "mitigation.lift", "mitigations.list" };

local admin_roles = { ["prosody:admin"] = true, ["prosody:operator"] = true };

local function is_below(domain, host)
	return domain:sub(-#host - 1) == "." .. host;
end

-- Whether a component belongs to the host: one the operator listed, or a sub-domain of it and of no VirtualHost below it.
local function is_own(domain, host, hosts, listed)
	if listed:contains(domain) then return true; end
	if not hosts[domain] or hosts[domain].type ~= "component" or not is_below(domain, host) then return false; end
	for name, session in pairs(hosts) do
		if session.type == "local" and #name > #host and is_below(domain, name) then return false; end
	end
	return true;
end

-- The host and its components.
local function list_own(host, hosts, listed)
	local own = { host };
	for domain, session in pairs(hosts) do
		if session.type == "component" and is_own(domain, host, hosts, listed) then own[#own + 1] = domain; end
	end
	return own;
end

-- A function that says whether a bare JID is an admin: by the option `admins`, or by a role given otherwise.
local function new_is_admin(host, list_admins, usermanager)
	return function (account)
		for _, admin in ipairs(list_admins()) do
			if jid.prep(admin) == account then return true; end
		end
		local node, domain = jid.split(account);
		if not node then return false; end
		if not usermanager.get_jid_role then -- COMPAT: 0.12 has roles of another kind
			return usermanager.is_admin(account, host) and true or false;
		end
		local role = usermanager.get_jid_role(account, host);
		if role and admin_roles[role.name] then return true; end
		return domain == host and (usermanager.user_can_assume_role(node, host, "prosody:admin")
			or usermanager.user_can_assume_role(node, host, "prosody:operator")) and true or false;
	end;
end

-- The admin whose JID is at this domain, if there is one.
local function find_admin(domain, admins)
	for _, admin in ipairs(admins) do
		local prepared = jid.prep(admin);
		if prepared and jid.host(prepared) == domain then return prepared; end
	end
end

local function list_muc(host, hosts, listed)
	local muc = array();
	for _, domain in ipairs(list_own(host, hosts, listed)) do
		if hosts[domain] and hosts[domain].modules and hosts[domain].modules.muc then muc:push(domain); end
	end
	return muc:sort();
end

local function list_capabilities(facts, muc)
	local list = array(capabilities);
	if facts.mitigations then list:append(array(mitigating)); end
	if facts.publishes then list:push("list.publish"); end
	if facts.mitigations and #muc > 0 then list:push("room.ban"); end
	return list;
end

-- facts: host, hosts (prosody.hosts), prosody_version, admins (a list of JIDs), muc (a set of domains), mitigations (how
-- many are active, or nil where there is no store to keep them), publishes (whether there are nodes for lists).
local function describe(facts)
	local muc = list_muc(facts.host, facts.hosts, facts.muc);
	return {
		host = facts.host;
		module_version = module_version;
		prosody_version = facts.prosody_version;
		admins = array(facts.admins);
		capabilities = list_capabilities(facts, muc);
		muc = muc;
		mitigations = facts.mitigations and { store = "incident_bridge", active = facts.mitigations } or json_null;
	};
end

return { describe = describe, find_admin = find_admin, new_is_admin = new_is_admin, is_own = is_own, list_own = list_own };
