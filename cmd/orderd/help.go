package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// putHelpTexts puts the texts of helpTexts in the place of their names. kong's own variables
// could do it; it tries every one of them at every flag, which took most of a verb's start
// (20 of 30 ms).
func putHelpTexts(k *kong.Kong) error {
	var missing error
	put := func(s *string) {
		name, isName := strings.CutPrefix(*s, "${")
		name, ends := strings.CutSuffix(name, "}")
		if !isName || !ends {
			return
		}
		text, known := helpTexts[name]
		if !known {
			missing = fmt.Errorf("help.go has no text %q", name)
		}
		*s = text
	}
	err := kong.Visit(k.Model.Node, func(v kong.Visitable, next kong.Next) error {
		switch v := v.(type) {
		case *kong.Node:
			put(&v.Help)
		case *kong.Value:
			put(&v.Help)
			put(&v.Enum)
		}
		return next(missing)
	})
	return err
}

// helpTexts are the sentences of --help that do not fit beside their flag: ${sweep_every}
// in a tag is replaced by the text of that name here. Names are those of the setting, or
// of the verb and its flag; one that is missing here ends the program at its start.
var helpTexts = map[string]string{ //nolint:gosec // G101: sentences about secrets, none of them is one
	"dsn": "sqlite:PATH or mysql:USER:PASS@tcp(HOST)/DB (default: SQLite in the data directory). Of several hosts, " +
		"tcp(H1:P1,H2:P2), the one that takes writes is used.",
	"read_dsn": "A replica of that MySQL or MariaDB, for lists, exports, reports and verify; never for a decision " +
		"(default: none).",
	"read_lag": "How far behind the replica may be that is read from; beyond it, or when it does not answer, the " +
		"primary is read.",
	"redis": "embedded, redis://…, redis+cluster://H1:P1,H2:P2 or redis+sentinel://H1:P1,H2:P2/MASTER; rediss… for " +
		"TLS (default: embedded).",
	"data_dir": "Where the embedded parts keep their files.",
	"refund_auto_approve": "Refunds of an order that are up to this many fen together need nobody's approval, " +
		"unless goods go back to the shelf for less than they cost; 0: every refund does.",
	"refund_two_persons": "Refunds of an order above this many fen together need two approvals; 0: one always " +
		"suffices.",
	"refund_restock": "true or false: do the goods of a refund go back to the shelf with the money, unless whoever " +
		"asks or approves for the shop says otherwise?",
	"max_open_orders": "Unpaid orders of the last day that one customer may have, each holds stock; 0: no " +
		"limit. n API processes at the same moment: n − 1 more.",
	"max_open_units": "Units of one SKU that the unpaid orders of the last day of one customer may hold together; 0: " +
		"no limit. n API processes at the same moment: n times as many.",
	"gate_redis": "Redis with the buckets of flash sales, the same for all processes, named as " +
		"ORDERD_REDIS is (default: that of the queue).",
	"gate_auto": "Hand units of a SKU that many ask for to the memory of the API processes by itself, and stop by " +
		"itself; what a person has said about the SKU stands.",
	"gate_mode": "off: the database decides; local: API processes count units down in their memory; redis: " +
		"buckets in Redis. With it the whole gate is set.",
	"late_payment": "Money that comes for a closed order: refund it, or revive an order that ran out of time " +
		"if all of its stock is there.",
	"ops_addr": "Listener of monitoring, /metrics, /healthz and /readyz (default: none beside the role admin, which " +
		"has them too, else 127.0.0.1:9091).",
	"shop_addr": "The storefront in a browser, for trying things out on the simulated WeChat Pay: an address of this " +
		"machine's own, or off.",
	"drain_delay": "How long /readyz says that the process is being stopped before it takes no more requests; on a " +
		"terminal 0 unless it is given.",
	"reconcile_daily": "Reconcile with WeChat Pay's bill every day.",
	"pace": "Divide the waits between calls to WeChat Pay by this. For tests against a simulator of " +
		"the same speed.",
	"access_log": "Log every request: route, status, duration, ids; no queries, no addresses of clients.",
	"log_level":  "debug, info, warn or error.",
	"serve":      "Run the service. With nothing configured it runs on embedded parts and says so.",
	"reconcile":  "Hold WeChat Pay's bills against our books; look at differences and resolve them.",
	"config":     "File of NAME=VALUE lines with ORDERD_… names.",
	"pay_description": "What the buyer reads in WeChat Pay's bill; {goods} becomes the title of the first goods and " +
		"the number of pieces.",
	"pay_within_min": "The least time to pay that a shop may give its own order (expires_in).",
	"pay_within_max": "The most of it.",
	"stock_low":      "Say at how many units the shop is told that little is left (stock.low).",
	"close_grace":    "How long after the deadline WeChat Pay is asked to close.",
	"trusted_proxies": "Proxies in front, as addresses or networks: the address of a payer by H5 is taken from " +
		"their X-Forwarded-For; empty: the request has to say it.",
	"close_unprepaid_after": "How long WeChat Pay may give no usable answer before an order that was never prepaid " +
		"is closed without one; 0: it waits.",
	"ask_every":   "How often WeChat Pay is asked whether an open trade is paid; 0: never.",
	"sweep_every": "How often the database is looked through for what Redis forgot.",
	"webhook_key": "Key that secrets in the database are kept under, at least 32 bytes: without it webhooks are off, " +
		"and nobody switches one-time codes on.",
	"webhook_allow": "Networks beside the internet that webhooks may go to, such as 10.1.0.0/16, with commas; " +
		"without TLS only there.",
	"listen":                  "Send what happens to a back end on this machine, signed as webhooks are.",
	"events_keep":             "How long the shop can read back what happened (events, webhooks).",
	"customer_jwt_secret":     "HS256 secret of customers' tokens, at least 32 bytes.",
	"customer_jwt_public_key": "Public key of customers' tokens instead (RS256 or ES256).",
	"customer_jwt_old":        "The one before a change, of either kind: its tokens are good until they end.",
	"bootstrap_admin_token":   "Bearer token of an administrator, at least 32 bytes.",
	"customer_token_life": "How long a customer's token may still be valid; one whose exp is further away is " +
		"refused.",
	"operator_token_life": "How long an operator's token lets in, from its making.",
	"behind_proxy": "Let the listener of operators have an address that is not this machine's own, because a proxy " +
		"in front of it has the TLS; logins are kept over TLS alone. Name the proxy in --trusted-proxies too.",
	"admin_local": "Let the listener of operators have an address that is not this machine's own, because nobody " +
		"else reaches it: a container whose port is published on 127.0.0.1.",
	"require_totp": "Finance and admins use the console with one-time codes (TOTP) alone; without, they are led to " +
		"switch them on.",
	"operator_link_url": "How the console is reached, such as https://console.example.com.",
	"wrong_tokens": "Tokens of nobody's that an address may send in a minute before it is answered 429; " +
		"0: no limit.",
	"wechat_mchid":       "Merchant number; without it the simulator is used.",
	"wechat_serial_no":   "Serial number of the merchant's certificate.",
	"wechat_private_key": "The merchant's private key.",
	"wechat_verify_keys": "WeChat Pay's public keys and certificates; several during a change of keys.",
	"wechat_response_key": "Which of them answers are asked for under (default: the public key, of several the first " +
		"one listed, else the certificate that is valid longest).",
	"wechat_other_appids":      "Further app ids of this shop, whose payments are ours too.",
	"wechat_notify_url":        "Public HTTPS address of /wechat/v3/notify/payment.",
	"wechat_refund_notify_url": "Public HTTPS address of /wechat/v3/notify/refund (default: beside the payments').",
	"wechat_base_url":          "WeChat Pay's address, or its two, divided by a comma, if not the usual ones.",
	"shipping_app_secret":      "AppSecret of the mini program: what was sent is reported to WeChat (发货信息管理).",
	"shipping_token_url":       "The shop's own service of access tokens, instead of the AppSecret.",
	"shipping_base_url":        "WeChat's server for mini programs, if not the usual one.",
	"shipment_parcel":          "CARRIER:NUMBER:GOODS[:189****1234], or GOODS alone without a carrier; repeatable.",
	"reconcile_run":            "Hold WeChat Pay's bill of a day against our books; exit 3 when differences are open.",
	"reconcile_run_type":       "ALL, SUCCESS, REFUND or FUNDFLOW.",
	"reconcile_run_bill": "A bill downloaded by hand instead, plain or gzip; it adds differences and ends none until " +
		"a second person confirms it; money is booked only where WeChat Pay, asked, agrees.",
	"reconcile_confirm": "Say, as a second person beside whoever gave the file, with a token of your own, that it is " +
		"WeChat Pay's: it counts for its day from then on.",
	"reconcile_resolve": "Resolve a difference. A write-off, and money of a sum for two that is sent back, are " +
		"proposed by the first person and done by the second, who gives the same command with a token of their own.",
	"reconcile_diffs_status": "OPEN, PENDING_NEXT_DAY, RESOLVED or WRITTEN_OFF (default: OPEN of all days, " +
		"all of one day).",
	"reconcile_month": "Show a month, with every day of it: bill, ours, fees, net, what is open, who closed it; exit " +
		"3 when something is open or days are missing.",
	"reconcile_work":           "Write the open differences as a workbook to be filled in and given back.",
	"reconcile_import":         "Show what a filled workbook would do, row by row; with --yes do it.",
	"reconcile_close":          "Say that a day is done: nothing open, nothing waiting. Its proof is kept.",
	"reconcile_pack":           "Write the proof of a day as one ZIP, which sha256sum checks.",
	"reconcile_assignee":       "Whose they are; - for those of nobody.",
	"reconcile_diffs_type":     "Such as BILL_ONLY; docs/reconciliation.md has them.",
	"reconcile_resolve_action": "APPLY_PAYMENT, REFUND, MARK_PENDING or WRITE_OFF.",
	// kong's enum of --action; the sentence above is its help.
	"reconcile_resolve_action_enum": "APPLY_PAYMENT,REFUND,MARK_PENDING,WRITE_OFF",
	"refund_list_state": "pending_approval, rejected, owed, processing, success, closed, abnormal, refused, " +
		"cancelled, by_hand or held.",
	"refund_approve": "Approve a refund. A sum for two people is sent when a second one, with a token of their own, " +
		"has approved it too; until then it waits.",
	"refund_by_hand": "Say that a refund that cannot end was paid back another way. A sum for two people is settled " +
		"when a second one, with a token of their own, has said the same; until then it is only noted.",
	"stock_flows_from": "Of orders placed, and of movements by hand made, from this time on, at most 31 days before " +
		"the end; without it, of a day.",
	"held": "Payments that fit no order and wait for a person: look at them, decide about them.",
	"held_adopt": "After a fail-over that lost writes: ask WeChat Pay about what only the old primary has, take " +
		"in what was paid, close what was not.",
	"held_adopt_against": "The old primary's database, which takes no writes any more.",
	"held_adopt_refund": "Send back at once what was paid for orders that are lost, by the rules of refunds; else " +
		"it is held.",
	"held_action": "APPLY: judge it again, if WeChat Pay still has it. REFUND: send it back; above the limit it " +
		"takes two people. WRITE_OFF: keep it as nobody's; it is proposed by the first person and done by a second, " +
		"who gives the same command with a token of their own.",
	"find_any": "An order_no, out_trade_no, transaction_id, out_refund_no, refund_id, a shop's reference, what it " +
		"attached, a customer, a SKU or the beginning of its title.",
	"order_vouch": "Say that nothing was paid for a closing order. It is closed when a second person, with a token " +
		"of their own, has said the same; until then it is only noted.",
	"trigger_event": "payment.success, payment.duplicate, payment.late, payment.wrong_amount, " +
		"payment.bad_signature, refund.success, refund.abnormal or refund.closed (of the order's " +
		"newest refund).",
	"trigger_event_enum": "payment.success,payment.duplicate,payment.late,payment.wrong_amount," +
		"payment.bad_signature,refund.success,refund.abnormal,refund.closed",
	"stock_import":      "Read SKUs from a CSV file: sku_id,title,price_fen,quantity (-1 = unlimited).",
	"stock_import_mode": "What the quantity of an existing SKU means: set the shelf to it, or add it.",
	"stock_buckets": "Show the buckets of a flash sale, and what Redis has of them; with --count, say how many there " +
		"are in Redis.",
	"stock_rebuild": "Give the buckets of a flash sale up, and have new ones made from the database.",
	"stock_verify": "Check stock and the buckets of flash sales, those in Redis too (--redis URL, or as configured); " +
		"exit 4 when something is broken.",
	"refund_cancel": "Give up a refund that WeChat Pay has refused or, by two people, a held one that it does not " +
		"know.",
	"refund_says_restock": "Whether the goods go back to the shelf (default: as was asked, or ORDERD_REFUND_RESTOCK).",
	"refund_card": "With --to buyer: file of JSON with bank_type (such as ICBC_DEBIT), bank_account and real_name, " +
		"or - for standard input. It is sent encrypted and kept nowhere.",
	"failed_filter_state": "dead, which wait for a person, or failing, which are tried again.",
	"token_create_role":   "Of an operator: viewer, operator, finance or admin.",
	"token_file": "File with an operator's token: the verb is done in that person's name, with their role. Without " +
		"it the shell acts, which is nobody's second person.",
	"token_create_expires": "How long a customer's token is valid; an operator's is until it is revoked.",
	"doctor_live": "Have WeChat Pay say something again, under each key and with a callback to each address; it " +
		"costs no money and opens no trade. orderd serve has to run, to take the callbacks.",
	"verify_quiescent": "Check too what holds only when nothing is under way: nothing overdue, on its way or " +
		"waiting for a person.",
	"verify_against": "List too the orders, trades, payments and refunds that only this database has: the old " +
		"primary's, after a fail-over.",
	"verify_metrics": "Write the result to this file too, for the textfile collector of Prometheus' node exporter.",
	"export_kind":    "alerts (Prometheus), grafana, systemd, compose, k8s or openapi.",
	"verify_repair": "Say what of it can be repaired honestly, which rows, and why; changes nothing without " +
		"--apply.",
}
