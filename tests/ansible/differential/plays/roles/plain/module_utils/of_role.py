def where():
    return "in the role"
