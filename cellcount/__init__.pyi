from cellcount.analysis.finished_run import Results as Results
from cellcount.analysis.python_api import analyze as analyze
from cellcount.analysis.python_api import open_results as open_results

__version__: str
