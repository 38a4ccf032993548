package console

import (
	"regexp"
	"slices"
	"strings"

	"orderd/migrations/sqldb"
)

// findingsZh are the sentences of doctor's findings, as patterns of the whole, and their Chinese with $1 for what
// varies. Commands and settings stand as they are. A test walks the sources: none that the page shows is missing.
var findingsZh = compileFindings([][2]string{
	{`same machine`, "与数据库在同一台机器"},
	{`not readable`, "读不到"},
	{`differs by (.+)`, "相差 $1"},
	{`WeChat Pay refuses signatures five minutes off; deadlines go by the database's clock`,
		"微信支付拒绝相差五分钟的签名；支付时限按数据库时钟计算"},
	{`run NTP on both machines`, "在两台机器上开启 NTP 校时"},
	{`up to date`, "已是最新"},
	{`(\S+), this program knows (\S+)`, "$1，本程序为 $2"},
	{`a newer program has changed it`, "已被更新的程序修改"},
	{`install the newer program here too`, "这里也请安装新版程序"},
	{`every ORDERD_… variable is a setting`, "所有 ORDERD_… 变量都是有效设置"},
	{`nobody reads them: a misspelt setting is its default`, "没有程序读取：拼错的设置按默认值生效"},
	{`'orderd config print' lists what there is`, "运行 orderd config print 查看全部设置"},
	{`valid`, "有效"},
	{`not valid before (\S+)`, "$1 起有效"},
	{`ends (\S+)`, "$1 到期"},
	{`after that its answers and notifications are not believed`, "到期后不再信任其签名的应答和通知"},
	{`download the new certificate, or move to WeChat Pay's public key, and add it to ORDERD_WECHAT_VERIFY_KEYS`,
		"下载新证书，或改用微信支付公钥，并加入 ORDERD_WECHAT_VERIFY_KEYS"},
	{`(\S+), together (\S+) yuan, since (.+)`, "$1 笔，合计 $2 元，最早 $3"},
	{`somebody has paid it and it is for no order`, "有人付了款，但不属于任何订单"},
	{`they gave up, and nobody tries them again`, "已放弃，不会自动重试"},
	{`(\S+) open`, "$1 条未处理"},
	{`(\S+) open, the oldest since (.+)`, "$1 条未处理，最早 $2"},
	{`bill and books differ, and nobody has said why`, "账单与账目不符，尚无人说明原因"},
	{`they could not be looked at`, "未能检查"},
	{`see the lines above`, "请看上面各行"},
	{`(\S+) flash sales, (\S+) found hot by themselves, (\S+) ended`, "抢购 $1 个，其中自动识别 $2 个，已结束 $3 个"},
	{`(\S+) flash sales, (\S+) found hot by themselves, (\S+) ended; the time of (\S+) is over and it is not ended`,
		"抢购 $1 个，其中自动识别 $2 个，已结束 $3 个；$4 的时间已过而未结束"},
	{`(.+); the time of (\S+) is over and it is not ended`, "$1；$2 的时间已过而未结束"},
	{`no process keeps the sales: what was returned is not sold again, and what is in buckets stays there`,
		"没有进程维护抢购：退回的商品不会再售，桶中的商品留在桶中"},
	{`is an API process running \('orderd serve --role api'\), and is its clock compared with the database's\?`,
		"请确认有 API 进程在运行（orderd serve --role api），且其时钟已与数据库校对"},

	{`no replica`, "不是从库"},
	{`a replica that follows another server`, "是从库，跟随另一台服务器"},
	{`what orderd writes here, the other server has only if it follows this one`,
		"orderd 在这里写入的内容，只有对方也跟随此服务器时才会有"},
	{`it is not known whether the server follows another: .+`,
		"不知道服务器是否跟随另一台：orderd 的账号无权读取 performance_schema.replication_connection_status 或 SHOW REPLICA STATUS"},
	{`the server does not say how many replicas it has`, "服务器未说明有几台从库"},
	{`it has stopped waiting: a crash of this server loses acknowledged orders`,
		"已不再等待从库：此服务器崩溃会丢失已确认的订单"},
	{`look at the replica; SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%'`, "检查从库；SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%'"},
	{`it stops waiting when its replica leaves, and a crash then loses acknowledged orders`,
		"从库离开后不再等待，此时崩溃会丢失已确认的订单"},
	{`SET GLOBAL rpl_semi_sync_master_wait_no_slave = ON`, "SET GLOBAL rpl_semi_sync_master_wait_no_slave = ON"},
	{`two servers take writes: each gets orders that the other one lacks`, "有两台服务器可写：各自都会有对方没有的订单"},
	{`SET GLOBAL read_only = ON where the primary is not`, "在不是主库的服务器上执行 SET GLOBAL read_only = ON"},
	{`nothing fails over to a host that is not there, or lets orderd in no more`,
		"连不上或拒绝 orderd 的主机，故障时无法切换过去"},
	{`start it, give orderd's user its rights there, or take it out of ORDERD_DSN`,
		"请启动它，在那里给 orderd 的用户授权，或从 ORDERD_DSN 中去掉"},
	{`point ORDERD_DSN at the server that writes`, "把 ORDERD_DSN 指向可写的主库"},
	{`no replica is connected`, "没有从库连接"},
	{`replicas follow asynchronously: a crash of this server loses acknowledged orders that no replica has`,
		"从库为异步复制：此服务器崩溃会丢失已确认而从库没有的订单"},
	{`turn semi-synchronous replication on, as docs/operations.md says`,
		"按 docs/operations.md 开启半同步复制"},
	{`too few replicas answer: every COMMIT waits for one, or stops waiting for good`,
		"应答的从库太少：每次 COMMIT 都会等待，或从此不再等待"},
	{`start the replica, or SET GLOBAL rpl_semi_sync_master_enabled = OFF`,
		"启动从库，或 SET GLOBAL rpl_semi_sync_master_enabled = OFF"},
	{`others see an order before a replica has it, and a crash then loses it`,
		"从库收到之前订单已可见，此时崩溃会丢失该订单"},
	{`it goes on alone when the replica is slow for so many ms, and a crash then loses acknowledged orders`,
		"从库慢于该毫秒数时主库会独自继续，此时崩溃会丢失已确认的订单"},
	{`no sentinel names the master`, "没有哨兵给出主节点"},
	{`start the sentinels, or correct their addresses, the master's name and sentinel_password in ORDERD_REDIS`,
		"启动哨兵，或更正 ORDERD_REDIS 中的地址、主节点名称和 sentinel_password"},
	{`the database file is damaged`, "数据库文件已损坏"},
	{`restore it from a backup`, "请从备份恢复"},
	{`the server has a statement queue: the last UPDATE of a placing batch commits by itself`,
		"服务器有语句队列：一批下单的最后一条 UPDATE 自行提交"},
	{`orderd's connections are in UTC, and this one is not: a proxy in between swallows SET time_zone`,
		"orderd 的连接使用 UTC，此连接不是：中间的代理吞掉了 SET time_zone"},
	{`have the proxy pass it on, or give it the time zone \+00:00`, "让代理转发该语句，或把其时区设为 +00:00"},
	{`orderd's connections are READ COMMITTED, and this one is not: nothing is wrong for it, and more transactions ` +
		`are done twice after deadlocks`, "orderd 的连接为 READ COMMITTED，此连接不是：结果不会出错，但死锁后会有更多事务重做"},
	{`have the proxy in between pass SET SESSION TRANSACTION ISOLATION LEVEL on`,
		"让中间的代理转发 SET SESSION TRANSACTION ISOLATION LEVEL"},
	{`a host that dies in a transaction keeps its rows locked for so many seconds: nobody sells those SKUs`,
		"主机在事务中宕机后，其锁定的行要这么多秒才释放，期间这些 SKU 无法售卖"},
	{`have the proxy between pass on SET SESSION wait_timeout, or connect without it`,
		"让中间的代理转发 SET SESSION wait_timeout，或不经代理直连"},
	{`a power cut loses orders and payments that were already acknowledged`, "断电会丢失已确认的订单和付款"},
	{`(SET GLOBAL innodb_flush_log_at_trx_commit = 1), and the same in the server's configuration`,
		"执行 $1，并写入服务器配置文件"},
	{`after a power cut the binary log, and so replicas and backups, may lack committed orders`,
		"断电后二进制日志（以及副本和备份）可能缺少已提交的订单"},
	{`other programs on this server may store cut values; orderd sets its own strict mode`,
		"此服务器上的其他程序可能存入被截断的值；orderd 自己使用严格模式"},
	{`only InnoDB has the transactions that orderd relies on`, "只有 InnoDB 具备 orderd 所需的事务"},
	{`Galera may lose committed transactions when nodes crash together; let one node write`,
		"多个节点同时宕机时 Galera 可能丢失已提交的事务；请只让一个节点写入"},
	{`point every orderd at the same node`, "让所有 orderd 连接同一个节点"},
	{`'orderd migrate up' refuses to make tables without CHECK constraints`,
		"缺少 CHECK 约束的表不予创建"},
	{`tables that are made now have no CHECK constraints, and those that are there are not looked at`,
		"现在建的表没有 CHECK 约束，已有的约束也不检查"},
	{`run (SET GLOBAL tidb_enable_check_constraint = ON) before 'orderd migrate up' \(TiDB 7.2 or newer\)`,
		"建表（迁移）之前先执行 $1（TiDB 7.2 或更新）"},
	{`orderd's connections are pessimistic, and this one is not: TiDB is READ COMMITTED in no others, and more can ` +
		`be returned than was deducted`,
		"orderd 的连接使用悲观事务，此连接不是：TiDB 只在悲观事务中支持 READ COMMITTED，退回的数量可能超过扣减的"},
	{`have the proxy in between pass comments on, or (SET GLOBAL tidb_txn_mode = 'pessimistic')`,
		"让中间的代理转发注释，或执行 $1"},
	{`TiDB reads from before a lock under any other, and more can be returned than was deducted`,
		"其他隔离级别下 TiDB 读到的是加锁之前的数据，退回的数量可能超过扣减的"},

	{`no answer yet`, "尚无应答"},
	{`timeouts run from the database while it takes no writes`, "不可写期间，超时改由数据库处理"},
	{`certificate (\S+) ends on (\S+)`, "证书 $1 于 $2 到期"},
	{`(.+); since (.+)`, "$1；始于 $2"},
	{`last verified answer at (.+) under key (\S+)`, "最近一次验签通过 $1，密钥 $2"},
	{`does not answer`, "没有应答"},
	{`this process is being stopped`, "本进程正在停止"},
	{`taken`, "可写"},
	{`no answer`, "没有应答"},
	{`it answers and hands out no tasks: timeouts run from the database, up to two seconds late`,
		"有应答但不分发任务：超时改由数据库处理，最多晚两秒"},
	{`see the log of Redis`, "请看 Redis 的日志"},
	{`timeouts run from the database, late by the sweep's interval`, "超时改由数据库定期扫描处理，会晚一个扫描间隔"},
	{`start Redis`, "请启动 Redis"},
	{`correct user and password in ORDERD_REDIS`, "请更正 ORDERD_REDIS 中的用户名和密码"},
	{`Redis wants a password: put it into ORDERD_REDIS, (\S+)`, "Redis 需要密码：请写入 ORDERD_REDIS，$1"},
	{`Redis has no password: take it out of ORDERD_REDIS`, "Redis 没有设密码：请从 ORDERD_REDIS 中去掉"},
	{`correct the password in ORDERD_REDIS`, "请更正 ORDERD_REDIS 中的密码"},
	{`Redis has no database of that number: correct the one in ORDERD_REDIS`,
		"Redis 没有该编号的库：请更正 ORDERD_REDIS 中的编号"},
	{`a Redis that evicts keys loses wake-ups and blocks their ids`, "会淘汰键的 Redis 会丢失唤醒并占住其编号"},
	{`check that maxmemory-policy is noeviction`, "请确认 maxmemory-policy 为 noeviction"},
	{`a Redis that evicts keys loses wake-ups and blocks their ids for ever`,
		"会淘汰键的 Redis 会丢失唤醒，并永久占住其编号"},
	{`(redis-cli CONFIG SET .+), and the same in redis\.conf, on every node`,
		"在每个节点执行 $1，并写入 redis.conf"},
	{`a restart of Redis forgets the wake-ups; the sweep re-arms them`, "Redis 重启会忘记唤醒，由定期扫描补上"},
	{`the queue needs Redis 4 or newer`, "队列需要 Redis 4 或更新版本"},
	{`give the user of ORDERD_REDIS the right to INFO, or look at the server`,
		"给 ORDERD_REDIS 的用户 INFO 权限，或直接查看服务器"},
	{`the queue's scripts need Redis 4 or newer`, "队列的脚本需要 Redis 4 或更新版本"},
	{`install a newer Redis`, "请安装更新的 Redis"},
	{`it is a replica: point ORDERD_REDIS at the master`, "它是副本：请让 ORDERD_REDIS 指向主节点"},
	{`it is full: raise maxmemory`, "内存已满：请调大 maxmemory"},
	{`bring its replicas back, or lower min-replicas-to-write`, "请恢复其副本，或调低 min-replicas-to-write"},
	{`it cannot write its snapshot: free its disk, see its log \(stop-writes-on-bgsave-error\)`,
		"无法写入快照：请清理磁盘并查看日志（stop-writes-on-bgsave-error）"},
	{`it is a replica without its master: point ORDERD_REDIS at the master`,
		"它是失去主节点的副本：请让 ORDERD_REDIS 指向主节点"},
	{`bring the missing nodes of the cluster back`, "请恢复集群中缺失的节点"},
	{`give the user of ORDERD_REDIS the right to write the keys asynq:\* and orderd:\*`,
		"给 ORDERD_REDIS 的用户写入 asynq:* 和 orderd:* 的权限"},
})

// findingText is a pattern of English and its Chinese.
type findingText struct {
	en *regexp.Regexp
	zh string
}

func compileFindings(all [][2]string) []findingText {
	compiled := make([]findingText, len(all))
	for i, s := range all {
		compiled[i] = findingText{regexp.MustCompile("^(?:" + s[0] + ")$"), s[1]}
	}
	return compiled
}

// findingInChinese says in Chinese what a text of a finding says; values, commands and what is not known stand as they
// are.
func findingInChinese(text string) (zh string, known bool) {
	for _, s := range findingsZh {
		if at := s.en.FindStringSubmatchIndex(text); at != nil {
			return string(s.en.ExpandString(nil, s.zh, text, at)), true
		}
	}
	return text, false
}

// in gives what is not ready as a page of a language shows it.
func (r readiness) in(l lang) readiness {
	if l == en {
		return r
	}
	r.Checks = slices.Clone(r.Checks)
	for i := range r.Checks {
		r.Checks[i].Detail, _ = findingInChinese(r.Checks[i].Detail)
	}
	return r
}

// inLanguage gives findings as a page of a language shows them.
func inLanguage(found []sqldb.Finding, l lang) []sqldb.Finding {
	if l == en {
		return found
	}
	all := make([]sqldb.Finding, len(found))
	for i, f := range found {
		for _, text := range []*string{&f.Found, &f.Why, &f.Fix} {
			*text, _ = findingInChinese(strings.TrimSpace(*text))
		}
		all[i] = f
	}
	return all
}
