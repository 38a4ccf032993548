package orderhttp

import (
	"regexp"
	"strconv"
	"strings"
)

// The domain speaks English. inChinese says the same, whole: with every number, name and
// choice that the English has. A sentence that is not here is shown as what its code
// means, with the English after it, so that nothing is lost; tests refuse that for every
// sentence that they see.

// sentence is one of English, with groups for what varies, and its Chinese, which names
// the groups by $1.
type sentence struct {
	en *regexp.Regexp
	zh string
}

// sentences of fields and parameters, the more special before the more general.
var sentences = compileSentences([][2]string{
	{`must be a string`, "须为字符串"},
	{`must be a whole number`, "须为整数"},
	{`must be an array`, "须为数组"},
	{`must be an object`, "须为对象"},
	{`must be true or false`, "须为 true 或 false"},
	{`is given twice`, "出现了两次"},
	{`is not a field here`, "这里没有这个字段"},
	{`is not a parameter here; there are none`, "这里没有这个参数，也没有其他参数"},
	{`is not a parameter here; these are: (.+)`, "这里没有这个参数，可用：$1"},
	{`want one of (.+)`, "不是允许的值，可用：$1"},
	{`it has no value; leave it out`, "没有值，请去掉该参数"},
	{`it is blank; leave it out`, "是空白，请去掉该字段"},
	{`is too large`, "数值过大"},
	{`a shop's key acts for one customer: name it in (\S+)`, "店铺密钥须代表一位客户，请在 $1 中写明"},
	{`only a shop's key gives a reference`, "只有店铺密钥可以给出 reference"},
	{`only a shop's key gives a time to pay`, "只有店铺密钥可以给出支付时限"},
	{`it must be a whole address without a user, such as (\S+)`, "须为完整网址，不含用户名，例如 $1"},
	{`there is no type "(.*)"; there are (.+)`, "没有事件类型“$1”，可用：$2"},
	{`the feed has no such event any more`, "没有这个事件，或已超过保留期"},
	{`there are (\d+) webhooks, and no more may be; remove one first`, "已有 $1 个 webhook，达到上限，请先移除一个"},
	{`webhooks are off: set ORDERD_WEBHOOK_KEY .+`, "webhook 未启用：请在每个进程设置相同的 ORDERD_WEBHOOK_KEY，至少 32 字节随机值"},
	{`give event_id for one event, or since for all of a time`, "给 event_id 重发一个事件，或给 since 重发该时间以来的全部"},
	{`type (\d+): so many are meant`, "请输入 $1：共有这么多"},
	{`it is needed`, "必填"},
	{`it is a whole number, such as (\S+)`, "须为整数，如 $1"},
	{`it is yuan with at most two decimals, such as (\S+)`, "须为金额（元），最多两位小数，如 $1"},
	{`it is a time such as (\S+)`, "须为时间，如 $1"},
	{`too many lines`, "行数过多"},
	{`(\w+) has (\d+) (\w+): (.+)`, "$1 有 $2 $3，须为 $4"},
	{`(\w+) is needed: (.+)`, "$1 必填，须为 $2"},
	{`(\w+) may only have text without control characters and characters of four bytes, such as emoji`,
		"$1 只能是文本，不能含控制字符和四字节字符（如表情符号）"},
	{`(\w+) may only have text without control characters but newlines and tabs`,
		"$1 只能是文本，除换行和制表符外不能含控制字符"},
	{`(\w+) may only have text without control characters`, "$1 只能是文本，不能含控制字符"},
	{`(\w+) may only have an IP address`, "$1 须为 IP 地址"},
	{`(\w+) may only have (.+)`, "$1 只能含 $2"},
	{`(\w+) and (\w+) together have (.+)`, "$1 和 $2 合计须为 $3"},
	{`(\w+) must be at least (\d+)`, "$1 至少为 $2"},
	{`(\w+) must be (.+)`, "$1 须为 $2"},
	{`(\w+) must not (.+)`, "$1 不得 $2"},

	{`an order is (\d+ to \d+ lines)`, "一个订单须为 $1"},
	{`an order holds (at most \d+ units)`, "一个订单$1"},
	{`names (at most \d+) SKUs`, "$1 个 SKU"},
	{`(at most \d+ lines)`, "$1"},
	{`a quantity is (\d+ to \d+)`, "数量须为 $1"},
	{`(\w+) is (\d+ to \d+ \w+)`, "$1 须为 $2"},
	{`a refund is 1 fen to ([\d.]+) yuan, in fen`, "退款须为 1 分至 $1 元，以分为单位"},
	{`an amount is 0 to ([\d.]+) yuan, in fen`, "金额须为 0 至 $1 元，以分为单位"},
	{`is a number from (\d+) to (\d+)`, "须为 $1 至 $2 的整数"},
	{`want (\d+ to \d+)`, "须为 $1"},
	{`want a whole number from 0 on`, "须为不小于 0 的整数"},
	{`no index has it alone: say with status which of theirs, or of which order`,
		"没有单独的索引：请同时用 status 指定状态，或指定订单"},
	{`want an amount in fen`, "须为金额，以分为单位"},
	{`want an amount in yuan such as 149\.00`, "须为金额，以元为单位，如 149.00"},
	{`want a length of time such as 1m or 90s`, "须为时长，如 1m 或 90s"},
	{`want whole seconds, such as 1m`, "须为整秒，如 1m"},
	{`from and to are at most 31 days apart`, "from 和 to 最多相隔 31 天"},
	{`want at most 6h, and 1 to 400 buckets`, "最多 6h，1 到 400 段"},
	{`no index has it: say with created_from and created_to, at most 31 days apart, when the orders were placed, ` +
		`or whose they are with customer_id`,
		"没有索引：请用 created_from 和 created_to 限定下单时间（最多相隔 31 天），或给出 customer_id"},
	{`it is more than a sheet of a workbook holds: narrow it down, or take text/csv`,
		"超过工作簿单个工作表的容量：请缩小范围，或改用 text/csv"},
	{`these lines cost (\d+) fen`, "超过所退商品的价格，它们共 $1 分"},
	{`is (?:a list of sku_id), separated by commas`, "须为以逗号分隔的 sku_id"},
	{`(?:is|want) a time (?:like|such as) (\S+)`, "须为时间，如 $1"},
	{`is not a cursor of this list`, "不是这个列表的游标"},
	{`this is no cursor of this list; begin without one`, "不是这个列表的游标，请不带游标重新开始"},
	{`a day of Beijing that has begun is needed, YYYY-MM-DD`, "须为已经开始的北京日期，格式 YYYY-MM-DD"},

	{`is not a state of an order`, "不是订单状态"},
	{`there is no such refund state`, "没有这个退款状态"},
	{`the currency is CNY`, "币种须为 CNY"},
	{`trade_type is (.+)`, "trade_type 须为 $1"},
	{`type is (.+)`, "type 须为 $1"},
	{`H5 needs a type: (.+)`, "H5 须有 type：$1"},
	{`H5 needs the payer's public IP address`, "H5 须有付款人的公网 IP 地址"},
	{`want (1 or true, 0 or false)`, "须为 $1"},
	{`want (.+)`, "须为 $1"},
	{`a failed task is (.+)`, "失败任务的状态须为 $1"},
	{`a refund's reason is (.+)`, "退款原因须为 $1"},
	{`a shipment is (.+)`, "发货状态须为 $1"},
	{`a role is (.+)`, "角色须为 $1"},
	{`((?:[A-Z]+, )+[A-Z]+ or [A-Z]+)`, "须为 $1"},

	{`no index has it: say with created_from and created_to, at most (\d+) days apart, when the orders were ` +
		`placed, or whose they are with customer_id`,
		"没有索引：请用 created_from 和 created_to 限定下单时间（最多相隔 $1 天），或用 customer_id 给出是谁的订单"},
	{`without type, cause, error and times every task is meant: say so with "all": true`,
		`没有 type、cause、error 和时间，指的就是所有任务：请用 "all": true 明说`},
	{`say how many buckets there are to be; rebuild-cache keeps their number`,
		"请说明要有多少个桶；rebuild-cache 保持桶数不变"},
	{`a gate that is off has no times, no rate and no limit`, "关闭的闸门没有时间、速率和限购"},
	{`closes_at is over`, "closes_at 已经过去"},
	{`the SKU is unlimited: there is nothing to count down`, "该 SKU 不限量，没有可扣减的数量"},
	{`a person of this name, or of one that looks like it, exists or existed; take another name`,
		"已有或曾有同名或形似的人员，请换一个名字"},
	{`a name is 1 to 64 of 0-9 A-Z a-z _ \. @ -, begins and ends with a letter or a digit, and is not one ` +
		`that the service has for itself, such as (.+)`,
		"名字须为 1 至 64 个 0-9 A-Z a-z _ . @ -，以字母或数字开头和结尾，且不是服务自用的名字，如 $1"},
})

// phrases stand inside sentences.
var phrases = compileSentences([][2]string{
	{`(\d+) to (\d+) characters`, "$1 至 $2 个字符"},
	{`(\d+) to (\d+) bytes`, "$1 至 $2 字节"},
	{`(\d+) to (\d+) lines`, "$1 至 $2 行"},
	{`(\d+) to (\d+) units`, "$1 至 $2 件"},
	{`(\d+) to (\d+) buckets`, "$1 至 $2 个桶"},
	{`(\d+) to (\d+) fen`, "$1 至 $2 分"},
	{`(\d+) to (\d+) seconds`, "$1 至 $2 秒"},
	{`(\d+) to (\d+)`, "$1 至 $2"},
	{`at most (\d+) characters`, "最多 $1 个字符"},
	{`at most (\d+) bytes`, "最多 $1 字节"},
	{`at most (\d+) lines`, "最多 $1 行"},
	{`at most (\d+) units`, "最多 $1 件"},
	{`at most (\d+)`, "最多 $1"},
	{`visible ASCII characters`, "可见的 ASCII 字符"},
	{`characters`, "个字符"},
	{`bytes`, "字节"},
	{`(.+) or (.+)`, "$1 或 $2"},
	{`(.+) and (.+)`, "$1 和 $2"},
})

// compileSentences makes whole-text patterns.
func compileSentences(all [][2]string) []sentence {
	compiled := make([]sentence, len(all))
	for i, s := range all {
		compiled[i] = sentence{regexp.MustCompile("^(?:" + s[0] + ")$"), s[1]}
	}
	return compiled
}

// inChinese gives a sentence about a field in Chinese, or says that it is not known.
func inChinese(detail string) (zh string, known bool) { return say(sentences, detail) }

// say finds a text among sentences; what varies in it is said in Chinese where it is a
// phrase, and as it is where not.
func say(among []sentence, text string) (zh string, known bool) {
	for _, s := range among {
		groups := s.en.FindStringSubmatch(text)
		if groups == nil {
			continue
		}
		zh = s.zh
		for i := len(groups) - 1; i > 0; i-- {
			part := groups[i]
			if phrase, ok := say(phrases, part); ok {
				part = phrase
			}
			zh = strings.ReplaceAll(zh, "$"+strconv.Itoa(i), part)
		}
		return zh, true
	}
	return "", false
}
