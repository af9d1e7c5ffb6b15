def write(runs, docs):
    pass
