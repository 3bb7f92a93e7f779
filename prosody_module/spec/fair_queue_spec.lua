local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local new_queue = support.library("fair_queue").new;

local function item(peer, name)
	return { peer = peer, name = name, bytes = 10 };
end

local function names(items)
	local found = {};
	for i, one in ipairs(items) do found[i] = one.name; end
	return table.concat(found, " ");
end

describe("the queue", function ()
	it("keeps the order of one peer", function ()
		local queue = new_queue(64);
		for i = 1, 4 do queue:push(item("b.test", "b" .. i)); end
		assert.equal("b1 b2 b3 b4", names(queue:take(64, 1000)));
		assert.equal(0, queue.count);
	end);

	it("takes turns between peers", function ()
		local queue = new_queue(64);
		for i = 1, 4 do queue:push(item("b.test", "b" .. i)); end
		queue:push(item("c.test", "c1"));
		queue:push(item("d.test", "d1"));
		queue:push(item("c.test", "c2"));
		assert.equal("b1 c1 d1 b2", names(queue:take(4, 1000)));
		assert.equal("c2 b3 b4", names(queue:take(4, 1000)));
	end);

	it("gives a peer an eighth of its places and no more", function ()
		local queue = new_queue(16);
		assert.is_true(queue:push(item("b.test")));
		assert.is_true(queue:push(item("b.test")));
		assert.same({ nil, "peer-full" }, { queue:push(item("b.test")) });
		assert.is_true(queue:push(item("c.test")));
	end);

	it("gives every peer at least one place", function ()
		local queue = new_queue(2);
		assert.is_true(queue:push(item("b.test")));
		assert.is_true(queue:push(item("c.test")));
		assert.same({ nil, "queue-full" }, { queue:push(item("d.test")) });
	end);

	it("ends a batch where its bytes end, but always takes one", function ()
		local queue = new_queue(64);
		for i = 1, 4 do queue:push(item("b.test", "b" .. i)); end
		assert.equal("b1 b2", names(queue:take(64, 29)));
		assert.equal("b3", names(queue:take(64, 1)));
	end);

	it("takes a peer's oldest item off, and only that", function ()
		local queue = new_queue(64);
		local first, second = item("b.test", "b1"), item("b.test", "b2");
		queue:push(first);
		queue:push(second);
		assert.is_false(queue:remove_oldest(second));
		assert.is_true(queue:remove_oldest(first));
		assert.is_true(queue:remove_oldest(second));
		assert.is_false(queue:remove_oldest(second));
		assert.equal(0, queue.count);
	end);

	it("remembers nothing of a peer whose items have left", function ()
		local queue = new_queue(64);
		for i = 1, 200 do
			local one = item(i .. ".test");
			queue:push(one);
			queue:remove_oldest(one);
		end
		assert.is_nil(next(queue.peers));
		assert.is_nil(queue.turn);
		assert.same({}, queue:take(64, 1000));
	end);
end);
