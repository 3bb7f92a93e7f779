-- What this server tells the bridge about a host: host.describe.

local array = require "util.array";
local json_null = require "util.json".null;

local module_version = "0.1.0";
local capabilities = { "stanza.send", "operator.notify", "host.describe" };

-- Whether a component belongs to the host: a sub-domain of it, or one the operator listed.
local function is_own(domain, host, listed)
	return listed:contains(domain) or domain:sub(-#host - 1) == "." .. host;
end

local function list_muc(host, hosts, listed)
	local muc = array();
	for domain, session in pairs(hosts) do
		if session.modules and session.modules.muc and is_own(domain, host, listed) then muc:push(domain); end
	end
	return muc:sort();
end

-- facts: host, hosts (prosody.hosts), prosody_version, admins (a list of JIDs), muc (a set of domains).
local function describe(facts)
	return {
		host = facts.host;
		module_version = module_version;
		prosody_version = facts.prosody_version;
		admins = array(facts.admins);
		capabilities = array(capabilities);
		muc = list_muc(facts.host, facts.hosts, facts.muc);
		mitigations = json_null;
	};
end

return { describe = describe };
