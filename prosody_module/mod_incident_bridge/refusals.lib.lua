-- Every stanza error this module makes itself; the bridge makes the others.

local bad_request = { type = "modify", condition = "bad-request" };
local policy_violation = { type = "modify", condition = "policy-violation" };
local resource_constraint = { type = "wait", condition = "resource-constraint" };
local internal_server_error = { type = "wait", condition = "internal-server-error" };

local function with_text(class, outcome, text)
	return { type = class.type, condition = class.condition, outcome = outcome, text = text };
end

return {
	no_payload = with_text(bad_request, "bad_request", "the IQ has no payload");
	no_id = with_text(bad_request, "bad_request", "the IQ has no id");
	long_id = with_text(bad_request, "bad_request", "the IQ's id is over 256 bytes");
	not_set = with_text(bad_request, "bad_request", "this payload belongs into an IQ of type set");
	not_get = with_text(bad_request, "bad_request", "this payload belongs into an IQ of type get");
	too_big = with_text(policy_violation, "too_big", "the stanza is bigger than this server relays");
	full = with_text(resource_constraint, "full", "too many incidents are waiting here; try again later");
	refused = with_text(resource_constraint, "refused", "this server takes no more incidents from you now; try again later");
	unreachable = with_text(resource_constraint, "unreachable",
		"the incident bridge of this server is not reachable; try again later");
	our_fault = with_text(internal_server_error, "failed", "this server could not handle the incident; try again later");
};
