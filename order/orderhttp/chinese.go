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
	{`line (\d+): (.+)`, "第 $1 行：$2"},
	{`want the header (.+)`, "第一行须为列名 $1"},
	{`column (".*") is unknown or there twice; want (.+)`, "列 $1 未知或重复，应为 $2"},
	{`column (\w+) is missing`, "缺少列 $1"},
	{`the file has no lines below its header`, "文件只有列名，没有数据行"},
	{`(\d+) fields, the header has (\d+)`, "有 $1 列，应为 $2 列"},
	{`(\w+) (".*") is not a whole number`, "$1 $2 不是整数"},
	{`SKU (\S+) is on line (\d+) already`, "SKU $1 在第 $2 行已出现"},
	{`SKU (\S+) cannot change between limited and unlimited`, "SKU $1 不能在限量与不限量之间改变"},
	{`the file is an \.xlsx workbook or a ZIP archive, not CSV: .+`,
		"文件是 .xlsx 工作簿，不是 CSV：请在 Excel 或 WPS 中另存为“CSV UTF-8”"},
	{`the file is an \.xls workbook, not CSV: .+`, "文件是 .xls 工作簿，不是 CSV：请在 Excel 或 WPS 中另存为“CSV UTF-8”"},
	{`the file is in UTF-16: .+`, "文件是 UTF-16 编码：请在 Excel 或 WPS 中另存为“CSV UTF-8”"},
	{`(.+), or -1 for unlimited`, "$1，-1 为不限量"},
	{`a line has carrier, number, goods and telephone, .+`, "每行为：快递公司编码,单号,商品,手机掩码；后两项可省略，含逗号的内容加引号"},
	{`an unlimited SKU has no number`, "不限量的商品不填数量"},
	{`there is a SKU of this id already`, "已有此编号的商品"},
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
	{`a refund is approved by somebody else than the one who asked for it`, "退款须由申请人以外的人员审批"},
	{`this person's account is disabled or no longer has the role that this takes`, "该账号已停用，或不再具有所需角色"},
	{`this takes two people, and neither the shell .+`, "此操作须由两个人完成，命令行和初始令牌不算其中一人"},
	{`this takes two people, and (\S+) is no second one beside (\S+): .+`,
		"此操作须由两个人完成，$1 与 $2 不能算作两个人（同一个人，或账号、令牌由对方创建）"},
	{`the order is paid; ask for a refund instead`, "订单已付款，请改为申请退款"},
	{`all the money of this order went back already`, "该订单的款项已全部退回"},
	{`this refund has ended`, "该退款已结束"},
	{`this refund was not made here; .+`, "该退款不是在本系统发起的，请单独处理"},
	{`([\d.]+) yuan of this payment went back elsewhere: with its refunds here .+ ([\d.]+) yuan too much; reject it`,
		"该笔付款已在别处退回 $1 元，加上本系统的退款超出 $2 元，请驳回"},
	{`order not found`, "订单不存在"},
	{`refund not found`, "退款单不存在"},
	{`the filter finds more than (\d+): narrow it down, such as by a shorter time`,
		"筛选结果超过 $1 笔，请缩小范围，例如缩短时间"},
	{`the filter finds nothing that this can be done to`, "筛选结果中没有可处理的"},
	{`(\d+) were meant and it is (\d+) now: look again`, "输入的是 $1 笔，现有 $2 笔，请重新确认"},
	{`they are as many as were meant, and not the same any more: look again`, "笔数相同，但内容已变化，请重新核对"},
	{`WeChat Pay takes no more calls now; it is asked for again at the end`, "微信支付限制了调用频率，最后再试"},
	{`somebody else is at it, or the database gave no answer; it is tried again at the end`,
		"有其他操作正在处理，或数据库没有答复，最后再试"},
	{`it could not be done; the log of the service says why`, "未能执行，原因见服务日志"},
	{`There is no such bulk run\.`, "没有这个批量任务。"},
	{`The Idempotency-Key of a bulk run is a ULID of yours: it is the run's id\.`,
		"批量任务的 Idempotency-Key 须为自行生成的 ULID，即任务编号。"},
	{`its texts are longer than any number or name`, "内容过长，没有这么长的编号或名称"},
	{`WeChat Pay has not answered yet; it is asked again by itself`, "微信支付尚未答复，系统会自动再次查询"},
	{`WeChat Pay gave no usable answer`, "微信支付没有给出可用的答复"},
	{`two people have to approve this refund: decide about it by itself`, "该退款须两人审批，请单独处理"},
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
	{`No shipment is owed for this order, or nothing was sent for it\.`, "此订单没有待上报的发货，或尚未登记发货。"},
	{`this order has no shipment to report: it is not paid in the mini program, or its money went back`,
		"此订单没有需要上报的发货：未在小程序付款，或款项已退回"},
	{`WeChat Pay says of (\S+): (\S+) (\S*), (\S+) yuan; only what it has as it was told is applied`,
		"微信支付对 $1 的答复为 $2 $3，$4 元；只有与通知一致的付款才会入账"},
	{`this payment was written off by (\S+) and (\S+)`, "已由 $1 和 $2 核销"},
	{`you have proposed to write this payment off, for another reason, and a second person is waited for; repeat it ` +
		`with that reason`, "您已用另一原因提议核销，正等待第二人确认；重复操作须使用原来的原因"},
	{`another measurement is under way`, "另一次测量正在进行"},
	{`(\S+) cannot be done about (\S+); (.+) can`, "$2 不能用 $1 处理，可用：$3"},
	{`(?:comment: comment|assignee: assignee|reason: reason) is needed: (.+)`, "必填：$1"},
	{`(\S+) has no account with the role finance`, "$1 没有财务角色的账号"},
	{`it was given to (\S+) meanwhile`, "期间已分配给 $1"},
	{`there is no action (".*"); (.+)`, "没有操作 $1，可用：$2"},
	{`A day is closed, and proven, by its bill of all transactions: (\S+)\.`, "关账与证明以当日全部交易账单为准：$1"},
	{`it has changed since then`, "期间已发生变化"},
	{`seconds is a whole number from 1 to 300`, "seconds 须为 1 至 300 的整数"},
	{`this is no workbook \(\.xlsx\): it is text in GBK, such as a CSV that Excel has saved: fill in the workbook ` +
		`itself, and save it as \.xlsx`, "这不是工作簿（.xlsx），而是 GBK 文本，例如 Excel 另存的 CSV：请填写工作簿本身，并存为 .xlsx"},
	{`this is no workbook \(\.xlsx\): it is text, such as a CSV: fill in the workbook itself, and save it as \.xlsx`,
		"这不是工作簿（.xlsx），而是文本，例如 CSV：请填写工作簿本身，并存为 .xlsx"},
	{`this is no workbook \(\.xlsx\): the file is empty`, "这不是工作簿（.xlsx）：文件是空的"},
	{`(\d+) differences are open`, "尚有 $1 条差异未处理"},
	{`(\d+) differences are open, of all bills of the day`, "当日全部账单尚有 $1 条差异未处理"},
	{`(\d+) differences wait for the bill of another day`, "尚有 $1 条差异等待另一天的账单"},
	{`the proof that was kept is not the one that was closed(?:: (.+))?`, "保存的证明与关账时不一致：$1"},
	{`it was reconciled before it was over; run it again`, "对账时当日尚未结束，请重新对账"},
	{`it has a file only, which a second person has to confirm`, "只有上传的账单，须由第二人确认"},
	{`it comes to more than one person may approve: somebody else of finance has to have it go on`,
		"合计超过单人审批上限，须由另一位财务继续此任务"},
	{`whoever had it go on is no second person any more: somebody else of finance has to have it go on`,
		"继续此任务的人已不能作为第二人，须由另一位财务继续此任务"},
	{`its stored bill is damaged: .+`, "已存的账单不完整，请从备份恢复当日的 bill_files 与 bill_chunks（orderd verify 会列出）"},
	{`it was reconciled again at this moment; try once more`, "此刻正在重新对账，请重试"},
	{`(\S+) is (new|running|waiting|failed)`, "$1 尚未完成对账（$2）"},
	{`days are closed in their order, and (\S+) is not closed`, "须按日期顺序关账，$1 尚未关账"},
	{`(\S+) was closed and has changed since; close it again first`, "$1 关账后已有变化，请先重新关账"},
	{`only a payment of one of our orders that we lack can be applied`, "只有属于本店订单而未入账的付款可以入账"},
	{`only a payment that fits no order of ours is refunded here; refund the others by their orders`,
		"这里只退不属于任何订单的付款；其他付款请在订单中退款"},
	{`only a row near midnight can be in the bill of another day`, "只有临近零点的交易可能在另一天的账单中"},
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
	{`the shelf holds (-?\d+), a change of (-?\d+) would leave less than nothing`,
		"现有 $1 件，变动 $2 件会使库存小于零"},
	{`the shelf holds (-?\d+), (-?\d+) were expected`, "现有 $1 件，与所填的 $2 件不符，请重新核对"},
	{`(\d+) units of (\S+) are in buckets of a sale with a queue, and its pool of (\d+) cannot bear a change of ` +
		`(-?\d+): end its sale first`, "$2 有 $1 件在排队抢购中，可售的 $3 件不足以变动 $4 件，请先结束抢购"},
	{`the SKU is unlimited, it has no stock to change`, "该 SKU 不限量，没有库存可调整"},
	{`the SKU is unlimited: there is nothing to count down`, "该 SKU 不限量，不能设为抢购"},
	{`the SKU has changed since it was read`, "商品已发生变化，请重新载入"},
	{`the gate has changed since it was read`, "抢购设置已发生变化，请重新载入"},
	{`a write-off needs a second person: somebody else has to confirm it`, "核销须两人：请由另一人确认"},
	{`the refund waits for the approval of a second person`, "退款等待第二人批准"},
	{`this difference is resolved already`, "此差异已处理"},
	{`this difference is resolved already: (.+), by (.+)`, "此差异已由 $2 处理：$1"},
	{`this cannot be reconciled: (.+)`, "无法处理：$1"},
	{`this day cannot be closed: (.+)`, "此日不能关账：$1"},
	{`it has changed since then: (.+)`, "导出后已发生变化：$1"},
	{`no such reconciliation or difference`, "没有此对账或差异"},
	{`This role needs one-time codes\.`, "此角色须启用动态口令。"},
	{`An operator's token is needed, Authorization: Bearer; a person logs in at /login\.`,
		"需要操作员令牌（Authorization: Bearer）；人员请在 /login 登录。"},
	{`The body cannot be read to its end\.`, "请求体未能读完。"},
	{`The body must be one JSON object\.`, "请求体须为一个 JSON 对象。"},
	{`limit is 1 to 200`, "limit 须为 1 至 200"},
	{`This role needs one-time codes: switch them on at (\S+)\.`, "此角色须先启用动态口令：$1"},
	{`The request comes from a page of another site\.`, "请求来自其他网站的页面，已拒绝。"},
	{`A form with a file is wanted\.`, "请选择文件后再提交。"},
	{`A field of the form is given twice\.`, "表单中有字段重复。"},
	{`The form has a field that is unknown\.`, "表单中有未知字段。"},
	{`The form cannot be read\.`, "无法读取表单。"},
	{`The form cannot be read to its end\.`, "表单未完整收到，请重试。"},
	{`The form has no file named bill\.`, "请选择账单文件。"},
	{`The form has a field that is not known here, or one twice; (.+)`, "表单中有未知或重复的字段；$1"},
	{`bill_date, bill_type, reason and the file bill are known\.`,
		"只收 bill_date、bill_type、reason 和文件 bill。"},
	{`The field (\S+) of the form is too long\.`, "表单字段 $1 过长。"},
	{`The file did not come back as it was\.`, "文件与先前不一致，请重新选择文件。"},
	{`There is no such webhook; GET /admin/v1/webhooks lists them\.`, "没有此 Webhook。"},
	{`type (\d+): so many are meant`, "请输入 $1，确认要处理的数量"},
	{`it is a whole number, such as (\d+)`, "须为整数，例如 $1"},
	{`it is yuan with at most two decimals, such as (\S+)`, "须为金额（元），最多两位小数，例如 $1"},
	{`it is a time such as (\S+)`, "须为时间，例如 $1"},
	{`give event_id for one event, or since for all of a time`, "请填写一个事件编号，或一个起始时间"},
	{`want the filters of a list of orders`, "须为订单列表的筛选条件"},
	{`the currency is CNY`, "币种须为人民币 CNY"},
	{`a person of this name, or of one that looks like it, exists or existed; take another name`,
		"已有或曾有同名或形似的人员，请换一个名字"},
	{`a name is 1 to 64 of 0-9 A-Z a-z _ \. @ -, begins and ends with a letter or a digit, and is not one ` +
		`that the service has for itself, such as (.+)`,
		"名字须为 1 至 64 个 0-9 A-Z a-z _ . @ -，以字母或数字开头和结尾，且不是服务自用的名字，如 $1"},
})

// phrases stand inside sentences.
var phrases = compileSentences([][2]string{
	// Before what has an "or": whole sentences behind the number of a line.
	{`bare " in non-quoted.field`, "未加引号的字段中有引号"},
	{`extraneous or missing " in quoted.field`, "引号不成对"},
	{`the file is not in UTF-8, but in GBK, .+`, "文件不是 UTF-8 编码（可能是 GBK）：请在 Excel 或 WPS 中另存为“CSV UTF-8”"},
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
	{`new`, "未对账"},
	{`running`, "对账中"},
	{`waiting`, "等待账单"},
	{`failed`, "失败"},
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

// InChinese says in Chinese what a detail says in English, for a page: with what stands before a colon left out
// where only the rest is known, and as it is behind a word of Chinese where nothing is.
func InChinese(detail string) string {
	for rest, more := detail, true; more; _, rest, more = strings.Cut(rest, ": ") {
		if zh, known := inChinese(rest); known {
			return zh
		}
	}
	return "未能执行：" + detail
}

// inner is a part of a text that is a sentence of its own.
func inner(part, text string) (zh string, known bool) {
	if part == text {
		return "", false
	}
	return inChinese(part)
}

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
			if inner, ok := inner(part, text); ok { // why, behind what was refused
				part = inner
			} else if phrase, ok := say(phrases, part); ok {
				part = phrase
			}
			zh = strings.ReplaceAll(zh, "$"+strconv.Itoa(i), part)
		}
		return zh, true
	}
	return "", false
}
