"""A reader who types a term of the book gets the page that treats it, and nothing is loaded before.

Of the 48 queries of the first five chapters the theme's own search answered 41 so, 35 with the
right page first; this one 48 and 41. Why it is not the theme's: docs/assets/search.js.
"""

import pytest

from tests.site.built import CHAPTERS

AUTOGRAD = "basics/autograd/"
ERROR = "linear/mean_squared_error/"
DESCENT = "linear/gradient_descent/"
BATCH = "linear/minibatch_sgd/"
REGRESSION = "linear/linear_regression/"
INTRODUCTION = "basics/introduction/"
TENSORS = "basics/tensors/"
PIPELINE = "basics/data_pipeline/"
INFORMATION = "classification/information_theory/"
LOGISTIC = "classification/logistic_regression/"
SOFTMAX = "classification/softmax_regression/"
SELECTION = "generalization/model_selection/"
OVERFITTING = "generalization/overfitting/"
DECAY = "generalization/weight_decay/"
DROPOUT = "generalization/dropout/"
INITIALIZATION = "training/initialization/"
NORM = "training/batch_norm/"
OPTIMIZERS = "training/optimizers/"
RECIPE = "training/recipe/"
BIKES = "networks/bike_sharing/"
PERCEPTRON = "networks/multilayer_perceptron/"

CONVOLUTION = "vision/convolution/"
POOLING = "vision/pooling/"
INCEPTION = "vision/inception/"
RESNET = "vision/resnet/"
IMAGES = "vision/image_data/"
TRANSFER = "vision/transfer_learning/"
ACCELERATOR = "scaling/accelerator/"
DISTRIBUTED = "scaling/distributed/"

WANTED = {
    "自动微分": AUTOGRAD,
    "计算图": AUTOGRAD,
    "动态计算图": AUTOGRAD,
    "叶子张量": AUTOGRAD,
    "链式法则": AUTOGRAD,
    "雅可比": AUTOGRAD,
    "梯度为什么会累加": AUTOGRAD,
    "requires_grad": AUTOGRAD,
    "no_grad": AUTOGRAD,
    "retain_grad": AUTOGRAD,
    "zero_grad": DESCENT,
    "detach": AUTOGRAD,
    "backward": AUTOGRAD,
    "均方误差": ERROR,
    "离群点": ERROR,
    "等高线": ERROR,
    "meshgrid": ERROR,
    "梯度下降": DESCENT,
    "学习率": DESCENT,
    "学习率太大": DESCENT,
    "学习率上界": DESCENT,
    "发散": DESCENT,
    "收敛": DESCENT,
    "鞍点": DESCENT,
    "鞍点怎么逃": DESCENT,
    "凸函数": DESCENT,
    "条件数": DESCENT,
    "为什么损失不下降": DESCENT,
    "小批量": BATCH,
    "随机梯度下降": BATCH,
    "SGD": BATCH,
    "指数加权平均": BATCH,
    "无偏": BATCH,
    "批量大小": BATCH,
    "噪声": BATCH,
    "线性回归": REGRESSION,
    "正规方程": REGRESSION,
    "闭式解": REGRESSION,
    "最小二乘": REGRESSION,
    "标准化": REGRESSION,
    "伪逆": REGRESSION,
    "nn.Linear": REGRESSION,
    "nn.Module": REGRESSION,
    "残差": REGRESSION,
    "数据管线": PIPELINE,
    "DataLoader": PIPELINE,
    "collate_fn": PIPELINE,
    "num_workers": PIPELINE,
    "缺失值": PIPELINE,
    "独热编码": PIPELINE,
    "熵": INFORMATION,
    "交叉熵": INFORMATION,
    "相对熵": INFORMATION,
    "KL 散度": INFORMATION,
    "kl_div": INFORMATION,
    "互信息": INFORMATION,
    "极大似然": INFORMATION,
    "经验分布": INFORMATION,
    "逻辑回归": LOGISTIC,
    "sigmoid": LOGISTIC,
    "决策边界": LOGISTIC,
    "对数几率": LOGISTIC,
    "BCEWithLogitsLoss": LOGISTIC,
    "阈值": LOGISTIC,
    "召回率": LOGISTIC,
    "softmax": SOFTMAX,
    "logits": SOFTMAX,
    "CrossEntropyLoss": SOFTMAX,
    "混淆矩阵": SOFTMAX,
    "Target is out of bounds": SOFTMAX,
    "softmax 溢出": SOFTMAX,
    "温度": SOFTMAX,
    "softmax 为什么会溢出": SOFTMAX,
    "多层感知机": PERCEPTRON,
    "隐藏层": PERCEPTRON,
    "激活函数": PERCEPTRON,
    "ReLU": PERCEPTRON,
    "LeakyReLU": PERCEPTRON,
    "tanh": PERCEPTRON,
    "死单元": PERCEPTRON,
    "异或": PERCEPTRON,
    "梯度消失": PERCEPTRON,
    "张量": TENSORS,
    "广播": TENSORS,
    "形状": TENSORS,
    "keepdim": TENSORS,
    "reshape 和 view 的区别": TENSORS,
    "contiguous": TENSORS,
    "步幅": TENSORS,
    "from_numpy": TENSORS,
    "non-singleton dimension": TENSORS,
    "Found no NVIDIA driver": TENSORS,
    "原地": TENSORS,
    "单车": BIKES,
    "归一化": BIKES,
    "反变换": BIKES,
    "泄漏": BIKES,
    "随机划分": BIKES,
    "上周同一小时": BIKES,
    "换单位": BIKES,
    "通用逼近": BIKES,
    "基线": BIKES,
    "机器学习": INTRODUCTION,
    "监督学习": INTRODUCTION,
    "强化学习": INTRODUCTION,
    "多臂赌博机": INTRODUCTION,
    "经验风险": INTRODUCTION,
    "迁移学习": TRANSFER,
    "分布偏移": INTRODUCTION,
    "循环网络": INTRODUCTION,
    "No module named 'pytorch'": INTRODUCTION,
    "模型选择": SELECTION,
    "交叉验证": SELECTION,
    "留一法": SELECTION,
    "测试集只用一次": SELECTION,
    "分组划分": SELECTION,
    "泛化误差": SELECTION,
    "超参数": SELECTION,
    "random_split": SELECTION,
    "过拟合": OVERFITTING,
    "欠拟合": OVERFITTING,
    "学习曲线": OVERFITTING,
    "早停": OVERFITTING,
    "early stopping": OVERFITTING,
    "双下降": OVERFITTING,
    "随机标签": OVERFITTING,
    "方差": OVERFITTING,
    "权重衰减": DECAY,
    "岭回归": DECAY,
    "软阈值": DECAY,
    "AdamW": DECAY,
    "param_groups": DECAY,
    "稀疏": DECAY,
    "λ 怎么选": DECAY,
    "暂退法": DROPOUT,
    "dropout": DROPOUT,
    "保留概率": DROPOUT,
    "nn.Dropout": DROPOUT,
    "忘了 eval": DROPOUT,
    "共适应": DROPOUT,
    "训练配方": RECIPE,
    "检查点": RECIPE,
    "断点续训": RECIPE,
    "梯度裁剪": OPTIMIZERS,
    "优化算法": OPTIMIZERS,
    "动量": OPTIMIZERS,
    "Nesterov": OPTIMIZERS,
    "Adam": OPTIMIZERS,
    "RMSprop": OPTIMIZERS,
    "偏差修正": OPTIMIZERS,
    "泰勒": OPTIMIZERS,
    "optimizer got an empty parameter list": OPTIMIZERS,
    "批量归一化": NORM,
    "批标准化": NORM,
    "BatchNorm1d": NORM,
    "running_mean": NORM,
    "Expected more than 1 value per channel": NORM,
    "LayerNorm": NORM,
    "尺度不变": NORM,
    "初始化": INITIALIZATION,
    "Xavier": INITIALIZATION,
    "Kaiming": INITIALIZATION,
    "梯度爆炸": INITIALIZATION,
    "正交初始化": INITIALIZATION,
    "fan_in": INITIALIZATION,
    "BN": NORM,
    "batch normalization": NORM,
    "BCE": LOGISTIC,
    "KL divergence": INFORMATION,
    "CNN": INTRODUCTION,
    "EMA": OPTIMIZERS,
    "learning rate": DESCENT,
    "one-hot encoding": PIPELINE,
    "RMSE": BIKES,
    "SSE": ERROR,
    "VJP": AUTOGRAD,
    "weight decay": DECAY,
    "accuracy": SOFTMAX,
    "gd": DESCENT,
    "优化器赛跑": "labs/optimizer_race/",
    "怪曲面": "labs/optimizer_race/",
    "误差从哪里来": "labs/bike_sharing/",
    "从 softmax 到小卷积网络": "labs/fashion_mnist/",
    "记号": "notation/",
    "特征数": "notation/",
    "词汇表": "glossary/",
    "卷积输出大小": CONVOLUTION,
    "互相关": CONVOLUTION,
    "平移等变": CONVOLUTION,
    "im2col": CONVOLUTION,
    "转置卷积 output_padding": CONVOLUTION,
    "nn.Conv2d": CONVOLUTION,
    "Kernel size can't be greater than actual input size": CONVOLUTION,
    "Expected 3D (unbatched) or 4D (batched) input to conv2d": CONVOLUTION,
    "最大池化": POOLING,
    "全局平均池化": POOLING,
    "感受野 计算": POOLING,
    "有效感受野": POOLING,
    "LeNet sigmoid 学不动": POOLING,
    "Output size is too small": POOLING,
    "count_include_pad": POOLING,
    "BlurPool": POOLING,
    "1×1 卷积": INCEPTION,
    "GoogLeNet": INCEPTION,
    "Inception 模块": INCEPTION,
    "GoogLeNetOutputs": INCEPTION,
    "Sizes of tensors must match except in dimension 1": INCEPTION,
    "辅助分类器": INCEPTION,
    "FlopCounterMode": INCEPTION,
    "残差块": RESNET,
    "退化问题": RESNET,
    "BasicBlock": RESNET,
    "downsample 什么时候需要": RESNET,
    "zero_init_residual": RESNET,
    "高速网络": RESNET,
    "The size of tensor a (64) must match": RESNET,
    "预激活": RESNET,
    "数据增强": IMAGES,
    "ImageFolder": IMAGES,
    "自定义 Dataset 图像": IMAGES,
    "v2.ToTensor deprecated": IMAGES,
    "Input tensor should be a float tensor": IMAGES,
    "测试时增强": IMAGES,
    "Found no valid file for the classes": IMAGES,
    "random_split transform": IMAGES,
    "冻结 微调": TRANSFER,
    "负迁移": TRANSFER,
    "灾难性遗忘": TRANSFER,
    "size mismatch for head.weight": TRANSFER,
    "weights.transforms": TRANSFER,
    "Target 5 is out of bounds": TRANSFER,
    "混合精度": ACCELERATOR,
    "torch.compile": ACCELERATOR,
    "GradScaler": ACCELERATOR,
    "pin_memory non_blocking": ACCELERATOR,
    "固定内存": ACCELERATOR,
    "_orig_mod": ACCELERATOR,
    "算术强度": ACCELERATOR,
    "分布式训练": DISTRIBUTED,
    "DistributedDataParallel": DISTRIBUTED,
    "torchrun": DISTRIBUTED,
    "DistributedSampler set_epoch": DISTRIBUTED,
    "Expected to have finished reduction in the prior iteration": DISTRIBUTED,
    "address already in use": DISTRIBUTED,
    "线性缩放规则": DISTRIBUTED,
    "Gloo connectFullMesh failed": DISTRIBUTED,
}

INPUT = "[data-md-component=search-query]"


@pytest.fixture(scope="module")
def searching(visit):
    with visit() as visitor:
        tab = visitor.open("notation/")
        assert not any("search_index" in request.url for request in visitor.requests)
        tab.focus(INPUT)
        tab.wait_for_function(
            "document.querySelector('.md-search-result__meta').textContent.includes('键入')"
        )
        yield visitor


def results(visitor, query: str) -> list[dict]:
    """Type a query; return address, heading and text of the best hit of every page found."""
    tab = visitor.page
    said = "document.querySelector('.md-search-result__meta').textContent.includes('键入')"
    for text, done in (("", said), (query, f"!{said}")):  # the theme listens to keys
        tab.fill(INPUT, text)
        tab.press(INPUT, "End")
        tab.wait_for_function(done)
    found = tab.evaluate(
        """() => [...document.querySelectorAll('.md-search-result__item')].map(item => ({
            address: item.querySelector('a').href.replace(/[?#].*/, ''),
            text: item.textContent,
            marked: [...item.querySelectorAll('mark')].map(mark => mark.textContent),
        }))"""
    )
    return [item | {"page": item["address"].removeprefix(visitor.address)} for item in found]


def test_index_and_worker_wait_for_the_search_box(visit):
    with visit() as visitor:
        tab = visitor.open(CHAPTERS[0])
        tab.wait_for_timeout(300)
        assert not [r.url for r in visitor.requests if "search_index" in r.url]
        with tab.expect_request("**/search/search_index.json"):
            tab.focus(INPUT)


@pytest.mark.parametrize(("query", "page"), WANTED.items())
def test_query_finds_its_page_among_the_first_three(searching, query, page):
    pages = [item["page"] for item in results(searching, query)]
    assert page in pages[:3]


FIRST = """async queries => {
    const config = JSON.parse(document.getElementById('__config').textContent)
    const worker = new Worker(config.search)
    const ask = message => new Promise(resolve => {
        worker.onmessage = answer => resolve(answer.data.data)
        worker.postMessage(message)
    })
    const index = await fetch(`${config.base}/search/search_index.json`)
    await ask({type: 0, data: await index.json()})
    const first = {}
    for (const query of queries) {
        const {items} = await ask({type: 2, data: query})
        first[query] = items[0]?.[0].location.replace(/#.*/, '')
    }
    worker.terminate()
    return first
}"""
"""The page that the worker puts first for each query, asked without the search box."""


def test_most_queries_find_their_page_first(searching):
    first = searching.page.evaluate(FIRST, list(WANTED))
    missed = {query for query, page in WANTED.items() if first[query] != page}
    assert len(missed) <= 0.15 * len(WANTED), sorted(missed)


def test_definition_comes_before_what_only_uses_the_term(searching):
    for query, address in (
        ("batch normalization", f"{NORM}#forward"),
        ("MSE", f"{ERROR}#model"),
        ("Stride", f"{CONVOLUTION}#size"),
    ):
        hit = searching.page.locator(".md-search-result__item a")
        results(searching, query)
        found = hit.evaluate_all("links => links.map(link => link.href.replace(/[?][^#]*/, ''))")
        assert searching.address + address in found[:2], query


def test_whole_term_is_marked_and_nothing_else(searching):
    for item in results(searching, "学习率"):
        assert set(item["marked"]) <= {"学习率"}


def test_formulas_and_markup_are_shown_as_text(searching):
    for query in ("学习率", "requires_grad", "<b>", "a & b"):
        for item in results(searching, query):
            assert "\\(" not in item["text"] and "&lt;" not in item["text"]


def test_unknown_word_finds_nothing(searching):
    assert results(searching, "鬱鬱鬱") == []


def test_choosing_a_result_leads_to_the_section_and_marks_the_term(searching):
    results(searching, "正规方程")
    tab = searching.page
    tab.press(INPUT, "Enter")
    tab.wait_for_url(f"**/{REGRESSION}**")
    tab.wait_for_selector("article mark")
    assert set(tab.locator("article mark").all_text_contents()) == {"正规方程"}
    assert searching.complaints == []
