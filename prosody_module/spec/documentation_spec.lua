local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";

local function read(name)
	local file = assert(io.open(here .. "/../mod_incident_bridge/" .. name));
	local text = file:read("*a");
	file:close();
	return text;
end

local readme, module_source = read "README.md", read "mod_incident_bridge.lua";

local function collect(text, pattern)
	local found = {};
	for name in text:gmatch(pattern) do found[name] = true; end
	return found;
end

describe("the README", function ()
	it("lists the options that the module reads, and no others", function ()
		assert.same(collect(module_source, '"(incident_bridge_[%w_]+)"'), collect(readme, "\n| `(incident_bridge_[%w_]+)`"));
	end);

	it("lists the metrics that the module keeps, and no others", function ()
		assert.same(collect(module_source, 'module:metric%("%w+", "([%w_]+)"'),
			collect(readme:gsub("_total`", "`"), "\n| `prosody_mod_incident_bridge__([%w_]+)`"));
	end);

	it("packs every library", function ()
		for name in (module_source .. read "control.lib.lua"):gmatch('module:require "([%w_]+)"') do
			assert.truthy(readme:find(("mod_incident_bridge.%s: %s.lib.lua"):format(name, name), 1, true), name);
		end
	end);

	it("lists every outcome of an IQ", function ()
		local outcomes = collect(read "refusals.lib.lua", 'with_text%([%w_]+, "([%w_]+)"');
		for outcome in pairs(outcomes) do
			assert.truthy(readme:find("`" .. outcome .. "`", 1, true), outcome);
		end
	end);
end);
