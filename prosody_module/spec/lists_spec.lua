local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local new_lists = support.library("lists").new;

-- What mod_pubsub's service is to the lists.
local function new_service(world)
	local service = { nodes = {} };
	function service.create(_, node, actor, config)
		if service.nodes[node] then return false, "conflict"; end
		service.nodes[node] = { config = config, actor = actor, ids = {} };
		return true;
	end
	function service.get_items(_, node)
		if not service.nodes[node] then return false, "item-not-found"; end
		return true, service.nodes[node].ids;
	end
	function service.publish(_, node, _, id, item)
		table.insert(world.done, "+ " .. id);
		world.item = item;
		table.insert(service.nodes[node].ids, 1, id);
		return not world.broken, world.broken;
	end
	function service.retract(_, node, _, id, notice)
		table.insert(world.done, "- " .. id);
		world.notice = notice;
		for i, each in ipairs(service.nodes[node].ids) do
			if each == id then table.remove(service.nodes[node].ids, i); end
		end
		return true;
	end
	return service;
end

local function new_world(max_items)
	local world = { done = {}, logged = {} };
	world.service = new_service(world);
	world.lists = new_lists {
		max_items = max_items or 256, service = function () return world.service; end;
		log = function (level, text, ...) table.insert(world.logged, level .. ": " .. text:format(...)); end;
	};
	world.lists:open();
	return world;
end

local function publish(world, domains)
	return world.lists:publish { nodes = { spam_source_domains = domains, spam_source_jids_sha256 = {}, muc_bans_sha256 = {} } };
end

describe("the lists", function ()
	it("have open nodes from the start, also after a restart", function ()
		local world = new_world();
		for _, node in ipairs { "muc_bans_sha256", "spam_source_domains", "spam_source_jids_sha256" } do
			assert.equal("open", world.service.nodes[node].config.access_model);
			assert.is_true(world.service.nodes[node].config.persist_items);
		end
		world.lists:open();
		assert.same({}, world.logged);
	end);

	it("hold what the bridge wants and nothing else; what is taken back goes first", function ()
		local world = new_world();
		assert.same({ changed = 2, more = false, left_out = 0 }, publish(world, { "new.test", "old.test" }));
		assert.same({ "+ old.test", "+ new.test" }, world.done);
		world.done = {};
		assert.same({ changed = 2, more = false, left_out = 0 }, publish(world, { "third.test", "new.test" }));
		assert.same({ "- old.test", "+ third.test" }, world.done);
		assert.equal("retract", world.notice.name);
		assert.equal("old.test", world.notice.attr.id);
		assert.equal(0, publish(world, { "third.test", "new.test" }).changed);
	end);

	it("say nothing in an item but that it is abuse", function ()
		local world = new_world();
		publish(world, { "bad.test" });
		assert.equal(1, #world.item.tags);
		assert.same({ xmlns = "urn:xmpp:reporting:1", reason = "urn:xmpp:reporting:abuse" }, world.item.tags[1].attr);
		assert.same({}, world.item.tags[1].tags);
	end);

	it("change a bounded number of items at once", function ()
		local world, many = new_world(), {};
		for i = 1, 40 do many[i] = "s" .. i .. ".test"; end
		assert.same({ changed = 32, more = true, left_out = 0 }, publish(world, many));
		assert.same({ changed = 8, more = false, left_out = 0 }, publish(world, many));
		assert.equal(40, #world.service.nodes.spam_source_domains.ids);
	end);

	it("leave out the oldest of what a node cannot hold, and say how many", function ()
		local world = new_world(2);
		assert.same({ changed = 2, more = false, left_out = 1 }, publish(world, { "c.test", "b.test", "a.test" }));
		assert.same({ "+ b.test", "+ c.test" }, world.done);
	end);

	it("are refused where this server publishes none, and where they are none", function ()
		local world = new_world();
		for _, nodes in ipairs { false, { x = {} }, { spam_source_domains = { "a b" } }, { spam_source_domains = "a" } } do
			local ok, why, status = world.lists:publish { nodes = nodes or nil };
			assert.same({ "nil", "string", "nil" }, { type(ok), type(why), type(status) });
		end
		assert.same({}, world.done);
		world.service = nil;
		local ok, why, status = publish(world, {});
		assert.is_nil(ok);
		assert.truthy(why:find("incident_bridge_lists = true", 1, true));
		assert.equal(409, status);
	end);

	it("say so where Prosody cannot write", function ()
		local world = new_world();
		world.broken = "internal-server-error";
		local ok, why, status = publish(world, { "bad.test" });
		assert.same({ "nil", 503 }, { type(ok), status });
		assert.truthy(why:find("internal-server-error", 1, true));
	end);
end);
