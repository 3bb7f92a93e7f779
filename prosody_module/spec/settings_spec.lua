local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local settings = support.library "settings";

describe("the address of the bridge", function ()
	it("is completed with the host's name", function ()
		assert.equal("http://127.0.0.1:8267/prosody/a.test", settings.read_url("http://127.0.0.1:8267", "a.test", false));
		assert.equal("https://bridge.example/x/prosody/a.test", settings.read_url("https://bridge.example/x/", "a.test", false));
	end);

	it("may be http on this machine only", function ()
		for _, url in ipairs { "http://localhost:1", "http://[::1]:1", "http://127.9.9.9:1" } do
			assert.is_string(settings.read_url(url, "a.test", false));
		end
		for _, url in ipairs { "http://192.0.2.1:1", "http://bridge.example", "http://127.0.0.1.example" } do
			local got, why = settings.read_url(url, "a.test", false);
			assert.is_nil(got);
			assert.truthy(why:find("incident_bridge_insecure", 1, true));
			assert.is_string(settings.read_url(url, "a.test", true));
		end
	end);

	it("must be one", function ()
		for _, url in ipairs { "", "127.0.0.1:8267", "ftp://127.0.0.1", "http://", "/x" } do
			assert.is_nil((settings.read_url(url, "a.test", true)));
		end
	end);
end);

describe("who may command", function ()
	it("is this machine, unless others are listed", function ()
		local is_allowed = settings.read_allow({});
		for _, address in ipairs { "127.0.0.1", "127.17.0.3", "::1", "::ffff:127.0.0.1" } do
			assert.is_true(is_allowed(address));
		end
		for _, address in ipairs { "192.0.2.1", "::2", "::ffff:192.0.2.1", "fe80::1", "", "x" } do
			assert.is_false(is_allowed(address));
		end
		assert.is_false(is_allowed(nil));
	end);

	it("is exactly who is listed", function ()
		local is_allowed = settings.read_allow({ "192.0.2.0/24", "2001:db8::1" });
		assert.is_true(is_allowed("192.0.2.77"));
		assert.is_true(is_allowed("2001:db8::1"));
		assert.is_false(is_allowed("192.0.3.1"));
		assert.is_false(is_allowed("2001:db8::2"));
		assert.is_false(is_allowed("127.0.0.1"));
	end);

	it("must be addresses", function ()
		for _, wrong in ipairs { "bridge.example", "192.0.2.0/x", "192.0.2.0/-1", "192.0.2.0/33", "" } do
			local got, why = settings.read_allow({ wrong });
			assert.is_nil(got);
			assert.truthy(why:find("incident_bridge_allow", 1, true));
		end
	end);
end);

describe("a number", function ()
	it("stays within its limits", function ()
		assert.equal(5, settings.within(5, 1, 10));
		assert.equal(1, settings.within(0, 1, 10));
		assert.equal(10, settings.within(math.huge, 1, 10));
	end);
end);
