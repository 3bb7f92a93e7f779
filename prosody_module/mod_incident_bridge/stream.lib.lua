-- What a stream proves about the server at its other end.

local jid_host = require "util.jid".host;
local json_null = require "util.json".null;

local function connection_of(origin)
	local conn = origin.conn;
	local ok, socket = pcall(function () return conn:socket(); end);
	return ok and socket or nil;
end

-- "TLSv1.3 TLS_AES_256_GCM_SHA384", or nil.
local function tls_of(origin)
	local socket = connection_of(origin);
	local ok, info = pcall(function () return socket:info(); end);
	if not ok or type(info) ~= "table" or not info.protocol then return nil; end
	return info.cipher and info.protocol .. " " .. info.cipher or info.protocol;
end

local function certificate_sha256_of(origin)
	local socket = connection_of(origin);
	local ok, digest = pcall(function () return socket:getpeercertificate():digest("sha256"); end);
	return ok and type(digest) == "string" and digest:lower() or nil;
end

-- How `domain` was authenticated on this stream. A certificate speaks only for the stream's own domain: others may be
-- piggy-backed on it by dialback. On a stream that we opened (bidirectional, XEP-0288) `external_auth` says that the
-- peer believed us, so there only its certificate counts.
local function authentication_of(origin, domain, mechanism)
	local is_outgoing = origin.direction == "outgoing";
	local stream_domain = is_outgoing and origin.to_host or origin.from_host;
	local is_proven = origin.secure and stream_domain == domain
		and origin.cert_chain_status == "valid" and origin.cert_identity_status == "valid";
	if is_proven and (is_outgoing or origin.external_auth == "succeeded") then return "certificate"; end
	if mechanism ~= nil and mechanism ~= "dialback" and mechanism ~= "EXTERNAL" then return "none"; end
	return is_proven and "dialback+certificate" or "dialback";
end

-- An error made by our own server because the peer could not be reached: mod_s2s gives it a dummy origin, and the
-- router gives it our host as origin though its `from` is another server.
local function is_bounce(origin, stanza, is_local_domain)
	if stanza.attr.type ~= "error" then return false; end
	if origin.dummy then return true; end
	return origin.type == "local" and not is_local_domain(jid_host(stanza.attr.from) or "");
end

local function is_s2s(origin)
	return origin.type == "s2sin" or origin.type == "s2sout";
end

-- Protocol and certificate, which stay as they are once a stream is encrypted and cost more than all the rest.
local function tls_facts(origin, memory)
	if not origin.secure then return json_null, json_null; end
	if not memory.tls then
		memory.tls = tls_of(origin) or json_null;
		memory.certificate_sha256 = is_s2s(origin) and certificate_sha256_of(origin) or json_null;
	end
	return memory.tls, memory.certificate_sha256;
end

-- The stream as the bridge is told of it. `memory` is a table kept for this stream: `mechanisms` says how each domain
-- was authenticated, as far as we saw it.
local function describe(origin, stanza, memory, is_local_domain)
	if is_bounce(origin, stanza, is_local_domain) then
		return {
			direction = "bounce", encrypted = false, tls = json_null;
			authentication = "local", certificate_sha256 = json_null;
		};
	end
	local tls, certificate_sha256 = tls_facts(origin, memory);
	local stream = {
		direction = "local", encrypted = origin.secure and true or false, tls = tls;
		authentication = "local", certificate_sha256 = certificate_sha256;
	};
	if is_s2s(origin) then
		local domain = jid_host(stanza.attr.from);
		stream.direction = origin.direction == "outgoing" and "outgoing" or "incoming";
		stream.authentication = authentication_of(origin, domain, memory.mechanisms[domain]);
	end
	return stream;
end

return { describe = describe };
