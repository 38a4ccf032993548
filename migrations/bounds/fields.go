package bounds

import "time"

// What customers send.
var (
	CustomerID = Field{Name: "the customer id", Least: 1, Most: 64, Unit: Bytes, Of: Visible,
		Columns: "orders.customer_id sale_buyers.customer_id", Why: "the width of its column"}
	IdempotencyKey = Field{Name: "the idempotency key", Least: 1, Most: 64, Unit: Bytes, Of: Word,
		Columns: "orders.request_id refunds.request_id stock_flows.ref", Why: "the width of its columns"}
	RequestID = Field{Name: "X-Request-Id", Most: 64, Unit: Bytes, Of: Dotted, Over: Replaced,
		Columns: "orders.placed_cause", Why: "the width of its column; another id is made instead"}
	SkuID = Field{Name: "sku_id", Least: 1, Most: 64, Unit: Bytes, Of: Code,
		Columns: "skus.sku_id order_items.sku_id stock_flows.sku_id refund_items.sku_id stock_gates.sku_id " +
			"stock_buckets.sku_id stock_moves.sku_id",
		Why: "the width of its columns"}
	Remark = Field{Name: "remark", Most: 200, Unit: Characters, Of: Text, Columns: "orders.remark",
		Why: "the width of its column"}
	Attach = Field{Name: "attach", Most: 128, Unit: Bytes, Of: Short, WeChat: "attach",
		Columns: "orders.attach payment_attempts.attach",
		Why:     "WeChat Pay counts bytes: \"输入源“/body/attach”…字节数 203，大于最大值 128\", easywechat#2954"}
	// Reference is a shop's own number for an order.
	Reference = Field{Name: "reference", Least: 1, Most: 64, Unit: Bytes, Of: Visible,
		Columns: "orders.reference events_out.reference webhook_deliveries.reference",
		Why:     "the width of its columns, and what can be searched for"}
	OpenID = Field{Name: "openid", Least: 1, Most: 128, Unit: Bytes, Of: Dotted, WeChat: "payer.openid",
		Columns: "payment_attempts.openid", Why: "WeChat Pay's document of the JSAPI prepay"}
	PayerIP = Field{Name: "payer_client_ip", Most: 45, Unit: Bytes, Of: Address,
		WeChat: "scene_info.payer_client_ip", Columns: "payment_attempts.client_ip",
		Why: "the longest text of an IPv6 address, and WeChat Pay's document of the H5 prepay"}
	H5Type = Field{Name: "type", Most: 7, Unit: Bytes, Of: H5Kind, WeChat: "scene_info.h5_info.type",
		Columns: "payment_attempts.h5_type", Why: "WeChat Pay's document of the H5 prepay"}
)

// What people of the shop send, and reasons, which customers send too.
var (
	Title = Field{Name: "title", Least: 1, Most: 127, Unit: Characters, Of: Text, Columns: "skus.title",
		Why: "the width of its column; WeChat Pay's description is made of it and cut"}
	Reason = Field{Name: "reason", Least: 1, Most: 200, Unit: Characters, Of: Line,
		Columns: "refunds.note refunds.decided_why refunds.said_why refund_approvals.reason stock_flows.reason " +
			"differences.proposed_why differences.resolved_why bill_hands.why stock_gates.reason " +
			"write_offs.proposed_why write_offs.written_off_why day_closings.why trail.reason bulk_runs.reason",
		Why: "the width of the narrowest of its columns"}
	// Comment is what a person says about a difference.
	Comment = Field{Name: "comment", Least: 1, Most: 500, Unit: Characters, Of: Line, Columns: "difference_notes.body",
		Why: "the width of its column; some sentences"}
	// Sale is the name of a flash sale; one of a single SKU has the SKU's.
	Sale = Field{Name: "sale", Least: 1, Most: 64, Unit: Bytes, Of: Code,
		Columns: "stock_gates.sale sale_buyers.sale", Why: "the width of its columns, as wide as sku_id"}
	// RepairReason is Reason of what verify repairs.
	RepairReason = Field{Name: "reason of a repair", Least: 1, Most: 120, Unit: Characters, Of: Line,
		Why: "a recount of a SKU puts what the counter and the flows said before it, in the one column of Reason"}
	// Note is Reason where none need be given.
	Note = Field{Name: "reason", Most: Reason.Most, Unit: Characters, Of: Line,
		Columns: "refunds.note webhook_endpoints.note",
		Why:     "two sentences in the timeline"}
	ReferenceNo = Field{Name: "reference_no", Most: 64, Unit: Characters, Of: Line, Columns: "stock_flows.reason",
		Why: "the number of a delivery note; with the reason it has one column"}
	Operator = Field{Name: "the name of an operator", Least: 1, Most: 64, Unit: Bytes, Of: Visible,
		Columns: "operators.name operators.name_key operators.created_by operators.disabled_by operator_tokens.name " +
			"operator_tokens.person operator_tokens.created_by stock_flows.actor stock_gates.actor " +
			"refunds.requester_id " +
			"refunds.decided_by refunds.said_by " +
			"refund_approvals.approver differences.proposed_by differences.resolved_by " +
			"differences.given_by bill_hands.who shipments.put_by webhook_endpoints.created_by shop_keys.created_by " +
			"operator_passwords.person operator_links.person operator_links.created_by operator_sessions.person " +
			"saved_views.person " +
			"write_offs.proposed_by write_offs.written_off_by differences.assignee difference_notes.who " +
			"day_closings.who trail.actor bulk_runs.actor",
		Why: "the width of its columns; package operators has a narrower grammar for new names"}
	Password = Field{Name: "password", Least: 12, Most: 128, Unit: Characters, Of: Line,
		Why: "twelve are what five tries in a quarter of an hour never find; of it a hash alone is stored"}
	// Agent is what a browser calls itself.
	Agent = Field{Name: "User-Agent", Most: 200, Unit: Characters, Of: Line, Over: Cut,
		Columns: "operator_sessions.agent", Why: "the width of its column; a person knows the own browser by it"}
	ViewName = Field{Name: "name", Least: 1, Most: 40, Unit: Characters, Of: Line,
		Columns: "saved_views.name", Why: "the width of its column; it is written on a button"}
	WebhookURL = Field{Name: "url", Least: 8, Most: 500, Unit: Bytes, Of: Visible,
		Columns: "webhook_endpoints.url", Why: "the width of its column"}
	Goods = Field{Name: "goods", Least: 1, Most: 120, Unit: Characters, Of: Line, WeChat: "shipping_list.item_desc",
		Why: "WeChat's document of upload_shipping_info"}
	Carrier = Field{Name: "carrier", Least: 1, Most: 128, Unit: Bytes, Of: Word,
		WeChat: "shipping_list.express_company",
		Why:    "WeChat's document of upload_shipping_info: an id of get_delivery_list, such as SF"}
	ParcelNo = Field{Name: "number", Least: 1, Most: 128, Unit: Bytes, Of: Word,
		WeChat: "shipping_list.tracking_no", Why: "WeChat's document of upload_shipping_info"}
	// Contact is masked but for its last four digits (package shipping).
	Contact = Field{Name: "contact", Least: 5, Most: 64, Unit: Bytes, Of: Visible,
		WeChat: "shipping_list.contact.receiver_contact", Why: "ours: WeChat's document has no bound"}
)

// Searched is the longest text that something can be found by.
var Searched = Field{Name: "q", Least: 1, Most: 128, Unit: Characters, Of: Line,
	Why: "the longest that is looked for: attach; goods are found by the beginning of their title"}

// What goes to WeChat Pay and is not sent by anybody.
var (
	OrderNo = Field{Name: "order_no", Least: 26, Most: 26, Unit: Bytes, Of: Word, Over: Ours,
		Columns: "orders.order_no order_items.order_no order_events.order_no stock_flows.order_no " +
			"payment_attempts.order_no payments.order_no refunds.order_no differences.order_no " +
			"shipments.order_no sale_buyers.order_no events_out.order_no webhook_deliveries.order_no", Why: "a ULID"}
	Description = Field{Name: "description", Least: 1, Most: 127, Unit: Bytes, Of: Short, Over: Cut,
		WeChat: "description", Columns: "payment_attempts.description",
		Why: "WeChat Pay counts bytes: \"字节数 145，大于最大值 127\", developers.weixin.qq.com, 2022"}
	OutTradeNo = Field{Name: "out_trade_no", Least: 6, Most: 32, Unit: Bytes, Of: Word, Over: Ours,
		WeChat: "out_trade_no",
		Columns: "payment_attempts.out_trade_no payments.out_trade_no refunds.out_trade_no differences.out_trade_no " +
			"shipments.out_trade_no",
		Why: "WeChat Pay's documents; \"字节数 35，大于最大值 32\""}
	OutRefundNo = Field{Name: "out_refund_no", Least: 1, Most: 64, Unit: Bytes, Of: Word, Over: Ours,
		WeChat: "out_refund_no", Columns: "refunds.out_refund_no refunds.replaces refund_items.out_refund_no " +
			"refund_approvals.out_refund_no", Why: "WeChat Pay's document of the refund"}
	NotifyURL = Field{Name: "notify_url", Least: 1, Most: 255, Unit: Bytes, Of: Visible, WeChat: "notify_url",
		Columns: "payment_attempts.notify_url refunds.notify_url",
		Why: "WeChat Pay's documents: 255 or 256; https, a host name and no address, a path, no query " +
			"(see CheckNotifyURL)"}
	TimeExpire = Field{Name: "time_expire", Least: 25, Most: 32, Unit: Bytes, Of: Visible, Over: Ours,
		WeChat: "time_expire", Columns: "payment_attempts.time_expire", Why: "RFC 3339 with an offset"}
	RefundReason = Field{Name: "reason", Most: 80, Unit: Bytes, Of: Short, Over: Cut, WeChat: "reason",
		Why: "WeChat Pay's document of the refund: bytes; what the buyer reads of the reason"}
)

// What WeChat Pay says.
var (
	WeChatNo = Field{Name: "transaction_id, refund_id", Least: 1, Most: 32, Unit: Bytes, Of: Word, Over: Unbelieved,
		WeChat: "transaction_id",
		Columns: "payments.transaction_id refunds.transaction_id refunds.refund_id differences.transaction_id " +
			"shipments.transaction_id write_offs.transaction_id",
		Why: "WeChat Pay's documents of payment and refund"}
	MchID = Field{Name: "mchid", Least: 6, Most: 32, Unit: Bytes, Of: Word, Over: Unbelieved, WeChat: "mchid",
		Columns: "payments.mchid", Why: "WeChat Pay's documents; numbers of ten digits are issued"}
	AppID = Field{Name: "appid", Least: 1, Most: 32, Unit: Bytes, Of: Word, Over: Unbelieved, WeChat: "appid",
		Columns: "payments.appid", Why: "WeChat Pay's documents; ids of 18 characters are issued"}
	PaidBy = Field{Name: "trade_type of a payment", Most: 16, Unit: Bytes, Of: Dotted, Over: Cut,
		Columns: "payments.trade_type", Why: "the width of its column; the longest word of WeChat Pay has 8"}
	Currency = Field{Name: "currency", Most: 16, Unit: Bytes, Of: Dotted, Over: Cut, WeChat: "amount.currency",
		Columns: "payments.currency", Why: "the width of its column; only CNY is applied"}
	NotificationID = Field{Name: "the id of a notification", Least: 1, Most: 64, Unit: Bytes, Of: Dotted,
		Over: Unbelieved, Columns: "order_events.cause_id echoes.id", Why: "the width of its columns"}
	Echo = Field{Name: "echo_message", Least: 26, Most: 26, Unit: Bytes, Of: Word, Over: Ours,
		WeChat: "echo_message", Columns: "echoes.message", Why: "a random word; WeChat Pay says it again"}
	ShipmentWord = Field{Name: "what WeChat says to a shipment", Most: 255, Unit: Bytes, Of: Line, Over: Cut,
		Columns: "shipments.message", Why: "the width of its column"}
	BillState = Field{Name: "the state in a bill", Most: 16, Unit: Bytes, Of: Line, Over: Cut,
		Columns: "differences.bill_state differences.ours_state", Why: "the width of its columns"}
)

// What explains.
var (
	Actor = Field{Name: "who did it", Most: 64, Unit: Bytes, Of: Visible, Over: Cut, Columns: "order_events.actor_id",
		Why: "the width of its column"}
	CauseType = Field{Name: "what brought it", Most: 16, Unit: Bytes, Of: Dotted, Over: Cut,
		Columns: "order_events.cause_type", Why: "the width of its column"}
	CauseID = Field{Name: "its id", Most: 64, Unit: Bytes, Of: Visible, Over: Cut, Columns: "order_events.cause_id",
		Why: "the width of its column"}
	PaidFrom = Field{Name: "where a payment was heard of", Most: 12, Unit: Bytes, Of: Dotted, Over: Cut,
		Columns: "payments.source", Why: "the width of its column"}
	Detail = Field{Name: "the detail of an event", Most: 1000, Unit: Characters, Of: Text, Over: Cut,
		Columns: "order_events.detail",
		Why:     "the width of its column, in JSON; room for a reason of 200 characters with every one escaped"}
	Problem = Field{Name: "why a refund call failed", Most: 200, Unit: Bytes, Of: Line, Over: Cut,
		Columns: "refunds.problem", Why: "the width of its column"}
	WebhookProblem = Field{Name: "why a webhook was not taken", Most: 200, Unit: Characters, Of: Line, Over: Cut,
		Columns: "webhook_deliveries.problem webhook_endpoints.why", Why: "the width of its columns"}
	WebhookAnswer = Field{Name: "what a webhook answered", Most: 1024, Unit: Bytes, Of: Line, Over: Cut,
		Columns: "webhook_deliveries.answer", Why: "its beginning, for whoever looks why it was not taken"}
	DayProblem = Field{Name: "why a reconciliation failed", Most: 500, Unit: Bytes, Of: Line, Over: Cut,
		Columns: "reconciliations.problem", Why: "the width of its column"}
	Resolution = Field{Name: "how a difference ended", Most: 64, Unit: Bytes, Of: Line, Over: Cut,
		Columns: "differences.resolution", Why: "the width of its column"}
	DifferenceID = Field{Name: "the id of a difference", Least: 32, Most: 32, Unit: Bytes, Of: Word, Over: Ours,
		Columns: "differences.id difference_notes.difference_id", Why: "128 bits of a hash, in hex"}
	BulkID = Field{Name: "the id of a bulk run", Least: 26, Most: 26, Unit: Bytes, Of: Word,
		Columns: "bulk_runs.id bulk_rows.run_id", Why: "a ULID, which the caller makes: the same again is the same run"}
	BulkNote = Field{Name: "why a row of a bulk run was not done, or a run stopped", Most: 200, Unit: Characters,
		Of: Line, Over: Cut, Columns: "bulk_rows.detail bulk_runs.note", Why: "the width of its columns"}
	TaskCause = Field{Name: "why a task failed", Most: 500, Unit: Characters, Of: Line, Over: Cut,
		Columns: "failed_tasks.cause", Why: "the width of its column"}
	TaskType = Field{Name: "the type of a task", Most: 32, Unit: Characters, Of: Visible, Over: Cut,
		Columns: "failed_tasks.task_type", Why: "the width of its column"}
	TaskKey = Field{Name: "what a task is about", Most: 64, Unit: Characters, Of: Visible, Over: Cut,
		Columns: "failed_tasks.task_key", Why: "the width of its column"}
	TaskPayload = Field{Name: "the payload of a task", Most: 1000, Unit: Characters, Of: Line, Over: Cut,
		Columns: "failed_tasks.payload", Why: "the width of its column"}
)

// Fields are the whole table, in the order in which docs/limits.md shows it.
var Fields = []*Field{
	&CustomerID, &IdempotencyKey, &RequestID, &SkuID, &Remark, &Attach, &Reference, &OpenID, &PayerIP, &H5Type,
	&Title, &Reason, &Comment, &Sale, &RepairReason, &Note, &ReferenceNo, &Operator, &Password, &Agent,
	&ViewName,
	&Goods, &Carrier, &ParcelNo, &Contact,
	&OrderNo, &Description, &OutTradeNo, &OutRefundNo, &NotifyURL, &TimeExpire, &RefundReason,
	&WebhookURL, &WebhookProblem, &WebhookAnswer,
	&WeChatNo, &MchID, &AppID, &PaidBy, &Currency, &NotificationID, &Echo, &ShipmentWord, &BillState,
	&Actor, &CauseType, &CauseID, &PaidFrom, &Detail, &Problem, &DayProblem, &Resolution, &DifferenceID,
	&BulkID, &BulkNote,
	&TaskCause, &TaskType, &TaskKey, &TaskPayload,
}

// Own are the columns of text that only this service fills, by what stands in them: their
// values are words and numbers of its own, and none of them is as long as what a person
// could send.
var Own = []struct{ What, Columns string }{
	{"a hash",
		"orders.request_hash refunds.request_hash operator_tokens.sha256 shop_keys.sha256 " +
			"operator_passwords.hash operator_links.sha256 operator_sessions.sha256 login_failures.who " +
			"bill_files.sha1 bill_chunks.sha1 " +
			"reconciliations.sha1 bill_hands.sha1 matched_across.sha1 difference_notes.ref day_closings.sha1 " +
			"day_closings.found_sha256 day_closings.manifest_sha256 day_closings.previous_sha256 " +
			"trail.session trail.prev_sha256 trail.sha256"},
	{"a word of a list in the program",
		"shipments.state orders.state orders.close_reason order_events.event order_events.from_state " +
			"order_events.to_state " +
			"order_events.actor_type payment_attempts.state payment_attempts.trade_type payments.outcome " +
			"payments.reason refunds.state refunds.reason refunds.requester_type refunds.told refunds.said_what " +
			"refunds.sent_to stock_flows.kind " +
			"saved_views.page bulk_runs.kind bulk_runs.state bulk_rows.state " +
			"operators.role operator_tokens.role operator_sessions.role trail.role trail.action trail.outcome " +
			"bill_files.bill_type bill_files.source bill_chunks.bill_type " +
			"reconciliations.bill_type reconciliations.state bill_hands.bill_type bill_hands.act bill_hands.how " +
			"differences.bill_type differences.kind differences.status differences.source differences.waits_for " +
			"difference_notes.what difference_notes.how day_closings.how day_closing_parts.name " +
			"matched_across.kind matched_across.source failed_tasks.state rate_limits.name " +
			"stock_gates.mode stock_gates.state stock_gates.origin stock_buckets.state stock_moves.cause " +
			"events_out.type events_out.state webhook_deliveries.type webhook_deliveries.state " +
			"webhook_endpoints.state webhook_endpoints.types webhook_places.name shop_keys.scopes"},
	{"a name that an administrator gave a shop", "shop_keys.name shop_keys.shop orders.shop refunds.shop"},
	{"a number of this service, or a secret that it made",
		"webhook_endpoints.id webhook_deliveries.endpoint_id webhook_endpoints.secret webhook_endpoints.old_secret " +
			"webhook_places.holder operator_passwords.totp operator_passwords.totp_new trail.act trail.request_id " +
			"bulk_runs.holder"},
	{"what a process says of itself",
		"processes.id processes.host processes.roles processes.version processes.revision"},
	{"an address of a connection, or times", "operator_sessions.address login_failures.tries trail.address"},
	{"a day, YYYY-MM-DD",
		"bill_files.bill_date bill_chunks.bill_date reconciliations.bill_date bill_hands.bill_date " +
			"differences.bill_date matched_across.bill_date day_closings.bill_date day_closing_parts.bill_date"},
	{"the name of an action, or of an operator", "difference_notes.word"},
	{"a number of a trade or refund that was read from a bill, or of a process",
		"differences.ref matched_across.ref reconciliations.holder stock_buckets.home"},
	{"the number of a refund or of a payment, or a day", "events_out.ref webhook_deliveries.ref"},
	{"the number of an order or of a refund", "bulk_rows.ref"},
	{"what is put together of fields that have bounds of their own",
		"shipments.content payment_attempts.answer payment_attempts.open_calls reconciliations.result " +
			"differences.facts " +
			"bill_chunks.body saved_views.query bulk_runs.filter day_closing_parts.body stock_gates.counts " +
			"trail.target trail.asked trail.was trail.became"},
}

// MostFen bounds what an order may cost, in fen.
const MostFen = 1_000_000_000

// Numbers that people send.
var (
	Lines = Number{Name: "an order", Least: 1, Most: 50, Unit: "lines", Why: "a cart, not a warehouse"}
	// Quantity is of one line, and of all lines of an order together.
	Quantity = Number{Name: "quantity", Least: 1, Most: 10_000, Unit: "units", Columns: "order_items.quantity",
		Why: "of one line, and of an order: a customer's, not a dealer's"}
	// ExpiresIn is what can be asked for anywhere; the configuration has narrower bounds.
	ExpiresIn = Number{Name: "expires_in", Least: 1, Most: int64(PayWithin / time.Second), Unit: "seconds",
		Why: "the time to pay that a shop gives an order: WeChat Pay closes a payment by itself after seven days; " +
			"ORDERD_PAY_WITHIN_MIN and ORDERD_PAY_WITHIN_MAX are narrower"}
	PriceFen = Number{Name: "price_fen", Least: 1, Most: 100_000_000, Unit: "fen",
		Columns: "skus.price_fen order_items.price_fen",
		Why:     "a million yuan for one unit: the total of an order cannot overflow"}
	TotalFen = Number{Name: "total", Least: 1, Most: MostFen, Unit: "fen",
		Columns: "orders.total_fen payment_attempts.amount_fen payments.amount_fen refunds.amount_fen",
		Why:     "ten million yuan; WeChat Pay's own limit of a payment is far lower"}
	Stock = Number{Name: "quantity", Least: 0, Most: 1_000_000_000, Unit: "units",
		Columns: "skus.available stock_flows.delta", Why: "of one change of a shelf, so that sums never overflow"}
)

// LowAt is when the shop is told that little is left of a SKU.
var LowAt = Number{Name: "low_at", Least: 0, Most: Stock.Most, Unit: "units", Columns: "skus.low_at",
	Why: "0 for never; as much as a shelf holds"}

// Numbers of flash sales.
var (
	GateBuckets = Number{Name: "buckets", Least: 1, Most: 64, Unit: "buckets", Columns: "stock_gates.buckets",
		Why: "more keys than a cluster of Redis has masters"}
	GateRate = Number{Name: "rate", Least: 0, Most: 1_000_000, Unit: "orders a second", Columns: "stock_gates.rate",
		Why: "of a queue, 0 for none: beyond it there is nothing to queue"}
	PerCustomer = Number{Name: "per_customer", Least: 0, Most: 100, Unit: "units", Columns: "skus.per_customer",
		Why: "each unit that a customer has in a limited sale is a row; 0 for no limit"}
)

// Numbers are the whole table of numbers.
var Numbers = []*Number{&Lines, &Quantity, &ExpiresIn, &PriceFen, &TotalFen, &Stock, &LowAt, &GateBuckets, &GateRate,
	&PerCustomer}

// Times of a payment at WeChat Pay.
const (
	// PayWithin is the longest time to pay, with the grace before the close: WeChat Pay
	// closes a trade by itself after seven days (its document of the close), whatever
	// time_expire says, and cuts that of a Native payment to them.
	PayWithin = 7 * 24 * time.Hour
	// CodeValid is how long code_url and prepay_id can be paid with, from the call that gave
	// them (WeChat Pay's documents of the prepay).
	CodeValid = 2 * time.Hour
	// H5Valid is the same of h5_url.
	H5Valid = 5 * time.Minute
)
