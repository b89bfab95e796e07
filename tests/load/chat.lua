-- For wrk: every request is the first message of a new session, as on a busy day.
local texts = {
  "我的包裹怎么还没到", "想退货怎么操作", "什么时候发货呀", "发票在哪里开", "优惠券用不了怎么回事", "这件衣服有没有大码",
  "加湿器怎么用", "退款多久到账", "地址写错了能改吗", "你好", "帮我写一篇作文", "等了三天了你们到底管不管",
}
local started = os.time()
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init()
  count = 0
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
end

function request()
  count = count + 1
  local body = string.format('{"session_id": "load-%d-%d-%d", "message_id": "1", "text": "%s"}',
    started, number, count, texts[count % #texts + 1])
  return wrk.format(nil, "/v1/chat", nil, body)
end

