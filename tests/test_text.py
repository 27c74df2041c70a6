"""The text keeps to one style: spacing and punctuation, Markdown, terms, plain words."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import autocorrect_py
import pytest

from publishing import ROOT
from tests.site.built import SOURCES

DOCS = ROOT / "docs" / "zh"
FILES = [DOCS / source for source in SOURCES]
FILES += [ROOT / name for name in ("README.md", "README.en.md", "CONTRIBUTING.md")]
TEXTS = {
    file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
    for file in FILES
    if file.is_file()
}


def fail_with(problems: list[str]) -> None:
    if problems:
        pytest.fail("\n" + "\n".join(problems), pytrace=False)


# Spaces and punctuation

autocorrect_py.load_config('{"context": {"codeblock": 0}}')  # what code prints is tested elsewhere

RIGHT = {
    # Inside a <div> it takes a Markdown link for Latin text.
    "- [勘误总表](errata.md)和[原笔记的去处](sources.md)：51 条勘误，388 个条目。",
    "- [记号](notation.md)和[词汇表](glossary.md)：统一的符号，每个术语的中英文。",
}
"""Lines that autocorrect would change though they are right."""


SHAPE = re.compile(r"（(?:批量|通道|高|宽)(?:, (?:批量|通道|高|宽))+）")
"""A shape in words, written as the tuple that it is."""


def miscorrected(text: str) -> list[tuple[str, str]]:
    """Return the lines that autocorrect would change, each with its correction."""
    # Between digits it takes a Chinese colon for that of a time of day, 12:30.
    text = re.sub(r"(?<=\d)：(?=\d)", "；", text)
    text = SHAPE.sub("（形状）", text)
    lines = zip(text.splitlines(), autocorrect_py.format_for(text, "md").splitlines(), strict=True)
    return [
        (line.strip(), corrected.strip())
        for line, corrected in lines
        if line != corrected and line.strip() not in RIGHT
    ]


def test_chinese_is_spaced_and_punctuated():
    fail_with(
        [
            f"{name}:\n- {line}\n+ {corrected}"
            for name, text in TEXTS.items()
            for line, corrected in miscorrected(text)
        ]
    )


def test_every_exception_to_spacing_is_needed():
    lines = {line.strip() for text in TEXTS.values() for line in text.splitlines()}
    assert lines >= RIGHT


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("用PyTorch训练", "用 PyTorch 训练"),
        ("损失是0.5", "损失是 0.5"),
        ("先算,再改", "先算，再改"),
    ],
)
def test_bad_spacing_is_found(wrong, right):
    assert miscorrected(wrong) == [(wrong, right)]
    assert miscorrected(right) == []


@pytest.mark.parametrize("text", ["`x,y` 是代码", "```text\n中文abc\n```", "误差是 0：20 个点"])
def test_code_and_colons_are_left_alone(text):
    assert miscorrected(text) == []


# Markdown

RUMDL = Path(shutil.which("rumdl", path=sysconfig.get_path("scripts")))


def lint(*files: Path) -> str:
    """Return what rumdl says, by the rules in pyproject.toml."""
    command = [RUMDL, "check", "--no-cache", "--quiet", "--config", ROOT / "pyproject.toml"]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_markdown_is_well_formed():
    fail_with(lint(*(ROOT / name for name in TEXTS)).splitlines())


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("MD001", "## 二 {#b}\n\n#### 四 {#d}\n"),
        ("MD009", "行尾 \n"),
        ("MD022", "段落\n## 标题 {#b}\n"),
        ("MD031", "段落\n```text\nx\n```\n"),
        ("MD032", "段落\n- 项\n"),
        ("MD034", "见 https://example.org/ 。\n"),
        ("MD040", "```\nx\n```\n"),
        ("MD051", "[x](#nowhere)\n"),
        ("MD056", "| a | b |\n|---|---|\n| 1 |\n"),
    ],
)
def test_bad_markdown_is_found(tmp_path, rule, text):
    file = tmp_path / "page.md"
    file.write_text(f"# 页 {{#a}}\n\n{text}", encoding="utf-8")
    assert rule in lint(file)


# Terms

TERMS = {
    r"(?:测试|训练|验证|分类|预测)的?精度|精确度|准确度|正确率": "准确率",
    r"查准率": "精确率",
    r"查全率": "召回率",
    r"批标准化|批归一化|批规范化|批量标准化": "批量归一化",
    r"丢弃法|随机失活|随机丢弃": "暂退法",
    r"梯度弥散": "梯度消失",
    r"梯度截断|梯度剪裁": "梯度裁剪",
    r"学习速率": "学习率",
    r"权值": "权重",
    r"隐含层|隐层": "隐藏层",
    r"感知器": "感知机",
    r"激励函数": "激活函数",
    r"最大似然": "极大似然",
    r"KL ?距离": "相对熵（KL 散度）",
    r"均方差": "均方误差（MSE）或标准差",
    r"逻辑回归|逻辑斯谛|逻辑斯蒂": "Logistic 回归",
    r"迷你批|小批次": "小批量",
    r"批大小|批尺寸|批次大小": "批量大小",
    r"轮次(?!序)|世代": "轮",
    r"移动平均": "滑动平均",
    r"矢量": "向量",
    r"自动求导|自动梯度": "自动微分",
    r"叶子?节点": "叶子张量",
    r"开发集": "验证集",
    r"过度拟合": "过拟合",
    r"提前停止|提早停止": "早停",
    r"跨步": "步幅",
    r"过滤器": "卷积核",
    r"跳跃连接|跳接|快捷连接|短路连接": "捷径",
    r"池化(?![（）])": "汇聚（池化）",
    r"卷积神经网络": "卷积网络",
    r"循环神经网络": "循环网络",
    r"掩膜|遮罩|蒙版": "掩码",
}
"""What the glossary does not call a thing, and what it calls it."""

QUOTING = re.compile(r"原笔记|笔记说|也译|又译|也叫|别处|中文里")
"""A line that has one of these speaks of others' words."""

SAID_OTHERWISE = {
    ("docs/zh/errata.md", "池化"): "the notes' own word, in the errata on it",
    ("docs/zh/linear/mean_squared_error.md", "均方差"): "what the erratum is about",
    ("docs/zh/generalization/overfitting.md", "均方差"): "平均方差, the mean of a variance",
    ("docs/zh/basics/introduction.md", "预测的精度"): "the notes' sentence that is corrected",
}


def other_terms(text: str) -> list[tuple[str, str, str]]:
    """Return the variants a text uses, each with the term of the glossary and the line."""
    text = re.sub(r"(?ms)^([ \t]*)```.*?^\1```[ \t]*$|`[^`\n]*`|\]\([^)]*\)", "", text)
    return [
        (found, term, line.strip())
        for line in text.splitlines()
        if not QUOTING.search(line)
        for pattern, term in TERMS.items()
        for found in re.findall(pattern, line)
    ]


VARIANTS = {
    (name, found): f"{name}: {found} → {term}: {line[:80]}"
    for name, text in TEXTS.items()
    if not name.endswith("sources.md")  # the notes' own words, item by item
    for found, term, line in other_terms(text)
}


def test_one_thing_has_one_name():
    fail_with([said for at, said in VARIANTS.items() if at not in SAID_OTHERWISE])


def test_every_exception_to_the_terms_is_needed():
    assert SAID_OTHERWISE.keys() - VARIANTS.keys() == set()


def test_another_term_is_found():
    assert other_terms("测试精度是 0.9") == [("测试精度", "准确率", "测试精度是 0.9")]
    assert other_terms("双精度；`池化`；也译批标准化；最大汇聚（池化）") == []


# Words

FILLERS = {
    r"值得注意|需要注意的是|值得一提|不难发现|不难看出|显而易见|众所周知|毋庸置疑": "say it",
    r"综上|总而言之|总的来说|简而言之|一言以蔽之|换句话说|如上所述": "the conclusion comes first",
    r"让我们|我们可以看到|接下来我们|下面我们将": "do it instead of announcing it",
    r"赋能|扮演着?.{0,8}角色|发挥着|至关重要|深入浅出|无缝|不可或缺|令人印象深刻": "empty praise",
    r"随着.{1,12}的(?:不断|快速)?发展|在当今|日益": "an opening that says nothing",
    r"不仅仅是|不仅.{1,20}而且|不仅.{1,20}更是": "say the second half",
    r"进行了?(?:一次)?(?:训练|计算|处理|优化|分析|比较|更新)": "the verb alone",
    r"对于.{1,12}(?:来说|而言)": "对…",
    r"本质上|事实上|实际上": "leave it out",
    r"！": "no exclamation marks",
}
"""What nobody says who has something to say, and what to do about it."""


def fillers(text: str) -> list[tuple[str, str]]:
    text = re.sub(r"(?ms)^([ \t]*)```.*?^\1```[ \t]*$|`[^`\n]*`", "", text)
    return [
        (match[0], advice)
        for pattern, advice in FILLERS.items()
        for match in re.finditer(pattern, text)
    ]


def test_no_words_without_content():
    fail_with(
        [
            f"{name}: {found} ({advice})"
            for name, text in TEXTS.items()
            if not name.endswith("sources.md")
            for found, advice in fillers(text)
        ]
    )


def test_a_filler_is_found():
    assert [found for found, _ in fillers("值得注意的是，它对于初学者来说太难！")] == [
        "值得注意",
        "对于初学者来说",
        "！",
    ]
