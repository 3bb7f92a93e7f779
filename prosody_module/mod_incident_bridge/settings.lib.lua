-- What the options mean, and what is wrong with them in words that say what to type.

local ip = require "util.ip";
local url = require "socket.url";

local loopback_cidrs = { "127.0.0.0/8", "::1", "::ffff:127.0.0.0/104" };

local function parse_cidrs(cidrs)
	local networks = {};
	for _, cidr in ipairs(cidrs) do
		local ok, address, bits = pcall(ip.parse_cidr, cidr);
		if not ok or not address then return nil, cidr; end
		local has_good_bits = bits and bits >= 0 and bits <= #address.packed * 8;
		if cidr:find("/", 1, true) and not has_good_bits then return nil, cidr; end
		networks[#networks + 1] = { address = address, bits = bits };
	end
	return networks;
end

local loopback = parse_cidrs(loopback_cidrs);

local function is_in(networks, text)
	local address = ip.new_ip(text or "");
	if not address then return false; end
	for _, network in ipairs(networks) do
		if ip.match(address, network.address, network.bits) then return true; end
	end
	return false;
end

-- A function that says whether an address may command us: loopback, or the CIDRs listed instead.
local function read_allow(cidrs)
	if #cidrs == 0 then
		return function (address) return is_in(loopback, address); end;
	end
	local networks, wrong = parse_cidrs(cidrs);
	if not networks then
		return nil, ("incident_bridge_allow: %s is neither an IP address nor a network like 192.0.2.0/24"):format(wrong);
	end
	return function (address) return is_in(networks, address); end;
end

local function is_loopback_name(host)
	host = host:gsub("^%[(.*)%]$", "%1");
	return host == "localhost" or is_in(loopback, host);
end

-- The address incidents of `host` are posted to.
local function read_url(text, host, is_insecure_allowed)
	local parts = url.parse(text);
	if not parts or not parts.host or parts.scheme ~= "http" and parts.scheme ~= "https" then
		return nil, ("incident_bridge_url: %s is not a URL like http://127.0.0.1:8267"):format(text);
	end
	if parts.scheme == "http" and not is_loopback_name(parts.host) and not is_insecure_allowed then
		return nil, ("incident_bridge_url: %s is not on this machine, so it must begin with https://"
			.. " (or set incident_bridge_insecure = true)"):format(text);
	end
	return text:gsub("/+$", "") .. "/prosody/" .. host;
end

-- The number within its limits; neither too much nor "never" is taken.
local function within(number, least, most)
	return math.min(math.max(number, least), most);
end

return { within = within, read_allow = read_allow, read_url = read_url };
