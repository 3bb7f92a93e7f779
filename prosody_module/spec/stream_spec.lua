local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local st = require "util.stanza";
local describe_stream = support.library("stream").describe;

local socket = {
	info = function () return { protocol = "TLSv1.3", cipher = "TLS_AES_256_GCM_SHA384" }; end;
	getpeercertificate = function ()
		return { digest = function (_, name) return name == "sha256" and "AB12" or nil; end };
	end;
};
local conn = { socket = function () return socket; end };

local function stream_of(changes, from, mechanism, type)
	local origin = {
		type = "s2sin", direction = "incoming", from_host = "b.test", to_host = "a.test", secure = true, conn = conn;
		cert_chain_status = "valid", cert_identity_status = "valid", external_auth = "succeeded";
	};
	for name, value in pairs(changes or {}) do origin[name] = value ~= "none" and value or nil; end
	local stanza = st.stanza("iq", { from = from or "b.test", type = type or "set", id = "r1" });
	local memory = { mechanisms = { [stanza.attr.from] = mechanism } };
	return describe_stream(origin, stanza, memory, function (domain) return domain:sub(-6) == "a.test"; end);
end

local outgoing = { type = "s2sout", direction = "outgoing", from_host = "a.test", to_host = "b.test" };

local function outgoing_with(changes)
	local all = {};
	for name, value in pairs(outgoing) do all[name] = value; end
	for name, value in pairs(changes) do all[name] = value; end
	return all;
end

describe("a stream", function ()
	it("is described by its direction, encryption, authentication and certificate", function ()
		assert.same({
			direction = "incoming", encrypted = true, tls = "TLSv1.3 TLS_AES_256_GCM_SHA384";
			authentication = "certificate", certificate_sha256 = "ab12";
		}, stream_of({}, "b.test", "EXTERNAL"));
	end);

	it("says certificate for what a user of the stream's domain sends", function ()
		assert.equal("certificate", stream_of({}, "user@b.test/phone").authentication);
	end);

	it("says dialback+certificate where the certificate is good but was not asked for", function ()
		assert.equal("dialback+certificate", stream_of({ external_auth = "none" }, "b.test", "dialback").authentication);
	end);

	it("says dialback where the certificate proves nothing", function ()
		local self_signed = { cert_chain_status = "invalid", cert_identity_status = "none", external_auth = "none" };
		assert.equal("dialback", stream_of(self_signed, "b.test", "dialback").authentication);
	end);

	it("says dialback for a domain that is piggy-backed on another's stream", function ()
		assert.equal("dialback", stream_of({}, "c.test", "dialback").authentication);
		assert.equal("dialback", stream_of({}, "sub.b.test").authentication);
		assert.equal("dialback", stream_of(outgoing, "c.test", "dialback").authentication);
	end);

	it("says none for a way of authentication that it does not know", function ()
		assert.equal("none", stream_of({ external_auth = "none" }, "b.test", "SCRAM-SHA-1").authentication);
	end);

	it("without TLS is not encrypted and has no certificate", function ()
		local stream = stream_of({ secure = "none", external_auth = "none" }, "b.test", "dialback");
		assert.is_false(stream.encrypted);
		assert.equal("dialback", stream.authentication);
		assert.equal("null", tostring(stream.tls));
		assert.equal("null", tostring(stream.certificate_sha256));
	end);

	it("that we opened counts by the peer's certificate", function ()
		local stream = stream_of(outgoing, "b.test", "EXTERNAL");
		assert.equal("outgoing", stream.direction);
		assert.equal("certificate", stream.authentication);
	end);

	it("that we opened proves nothing by the peer believing us", function ()
		local believed = outgoing_with { cert_chain_status = "invalid", cert_identity_status = "none" };
		assert.equal("dialback", stream_of(believed, "b.test", "EXTERNAL").authentication);
	end);

	it("is asked for its certificate once", function ()
		local asked = 0;
		local origin = { type = "s2sin", from_host = "b.test", secure = true, conn = {
			socket = function () asked = asked + 1; return socket; end;
		} };
		local stanza = st.stanza("iq", { from = "b.test", type = "set" });
		local memory = { mechanisms = {} };
		local first = describe_stream(origin, stanza, memory);
		local after_first = asked;
		assert.same(first, describe_stream(origin, stanza, memory));
		assert.equal(after_first, asked);
	end);

	it("may have gone, or be of another kind of connection", function ()
		for _, gone in ipairs { "none", {}, { socket = function () error("closed"); end }, { socket = function () return {}; end } } do
			local stream = stream_of({ conn = gone });
			assert.equal("null", tostring(stream.tls));
			assert.equal("null", tostring(stream.certificate_sha256));
		end
	end);

	it("of a local user or component is local", function ()
		for _, type in ipairs { "c2s", "component", "local" } do
			local stream = stream_of({ type = type }, "comp.a.test");
			assert.equal("local", stream.direction);
			assert.equal("local", stream.authentication);
		end
	end);
end);

describe("a bounce", function ()
	it("is an error of a dummy origin, though it comes from the peer", function ()
		local stream = stream_of({ dummy = true, secure = "none" }, "b.test", nil, "error");
		assert.equal("bounce", stream.direction);
		assert.equal("local", stream.authentication);
	end);

	it("is an error from another server that our own router made", function ()
		assert.equal("bounce", stream_of({ type = "local" }, "b.test", nil, "error").direction);
		assert.equal("local", stream_of({ type = "local" }, "comp.a.test", nil, "error").direction);
	end);

	it("is not what the peer sends", function ()
		assert.equal("incoming", stream_of({}, "b.test", nil, "error").direction);
		assert.equal("incoming", stream_of({}, "b.test", nil, "result").direction);
	end);
end);
